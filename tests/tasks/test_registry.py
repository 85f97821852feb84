"""SeqIO itself, reading the same text, is the reference for what a store holds."""

import functools
from pathlib import Path

import numpy as np
import pytest
import seqio
import tensorflow as tf

from tests.tokenizers.texts import HARD_TEXTS, Documents, small_sentencepiece
from triarch.errors import UserError
from triarch.prepare.corpora.named import CORPORA
from triarch.prepare.corpora.stdlib import StdlibCode, StdlibProse
from triarch.prepare.pipeline import VocabularyChoice, prepare
from triarch.tasks.registry import corpus_of, corpus_task, get_task, store_task
from triarch.tasks.vocabularies import seqio_vocabulary
from triarch.tokenizers import ByteTokenizer

WINDOW = 64


@functools.cache
def _store(kind, folder):
    choice = VocabularyChoice("bytes") if kind == "bytes" else VocabularyChoice(size=420)
    return prepare(Documents(), "test", folder / kind, choice, WINDOW, validation_fraction=0.2, workers=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stores")


def _dataset(task, split, length=None):
    lengths = None if length is None else {"targets": length}
    dataset = seqio.get_mixture_or_task(task.name).get_dataset(lengths, split=split, shuffle=False)
    return [example["targets"] for example in dataset.as_numpy_iterator()]


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_store_is_what_seqio_reads(folder, kind, split):
    """Tokenized by TensorFlow Text, in SeqIO's own pipeline: the same stream, and the same windows."""
    store = _store(kind, folder)
    task = store_task("test_store", store, Documents())
    reader = store.split(split)
    windows = np.stack([reader[index]["tokens"] for index in range(len(reader))])
    documents = _dataset(task, split)
    assert len(documents) == store.manifest.splits[split].documents
    stream = np.concatenate(documents)
    assert len(stream) == store.manifest.splits[split].tokens
    np.testing.assert_array_equal(windows.ravel(), stream[: windows.size])
    np.testing.assert_array_equal(windows, np.stack(_dataset(task, split, WINDOW)))


def test_seqios_feature_converter_takes_the_task(folder):
    """What T5X would train on: SeqIO's LM features of the store's windows."""
    task = store_task("test_converted", _store("bytes", folder), Documents())
    dataset = seqio.get_dataset(
        task.name,
        {"targets": WINDOW},
        dataset_split="train",
        shuffle=False,
        feature_converter=seqio.LMFeatureConverter(pack=False),
    )
    example = next(dataset.as_numpy_iterator())
    window = _store("bytes", folder).split("train")[0]["tokens"]
    np.testing.assert_array_equal(example["decoder_target_tokens"], window)
    np.testing.assert_array_equal(example["decoder_input_tokens"][1:], window[:-1])


@pytest.fixture(scope="module", params=["bytes", "bpe", "unigram"])
def pair(request, folder):
    if request.param == "bytes":
        return ByteTokenizer(), seqio_vocabulary(ByteTokenizer())
    tokenizer = small_sentencepiece(request.param, 420 if request.param == "bpe" else 360)
    path = folder / f"{request.param}.model"
    path.write_bytes(tokenizer.model)
    return tokenizer, seqio_vocabulary(tokenizer, path)


def test_vocabularies_agree(pair):
    tokenizer, vocabulary = pair
    special = tokenizer.info.special
    assert (vocabulary.pad_id, vocabulary.eos_id) == (special["pad"], special["eos"])
    assert vocabulary.vocab_size == tokenizer.info.size
    for text in HARD_TEXTS:
        ids = tokenizer.encode(text).tolist()
        assert list(vocabulary.encode(text)) == ids
        assert vocabulary.encode_tf(tf.constant(text)).numpy().tolist() == ids
        assert vocabulary.decode(ids) == text


def test_tasks_on_every_machine():
    assert isinstance(corpus_of(get_task("stdlib_code")), StdlibCode)
    assert isinstance(corpus_of(get_task("stdlib_prose")), StdlibProse)
    dataset = seqio.get_mixture_or_task("stdlib_code").get_dataset({"targets": 32}, split="train", shuffle=False)
    first = next(StdlibCode().documents())
    example = next(dataset.as_numpy_iterator())["targets"]
    assert first.key == "__future__.py"
    np.testing.assert_array_equal(example, ByteTokenizer().encode(first.text)[:32])


def test_every_corpus_has_a_task():
    assert {name: corpus_of(get_task(name)) for name in CORPORA} == CORPORA


def test_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match=r"unknown task 'stdlib_cod' \(did you mean 'stdlib_code'"):
        get_task("stdlib_cod")


def test_a_foreign_source_is_refused():
    source = seqio.TextLineDataSource({"train": str(Path(__file__))})
    seqio.TaskRegistry.add("test_foreign", source, {"targets": seqio.Feature(seqio.ByteVocabulary())})
    with pytest.raises(UserError, match="its source is a TextLineDataSource"):
        corpus_of(get_task("test_foreign"))


def test_registering_again_replaces():
    vocabulary = seqio_vocabulary(ByteTokenizer())
    corpus_task("test_twice", Documents(3), vocabulary)
    corpus_task("test_twice", Documents(4), vocabulary)
    assert corpus_of(get_task("test_twice")) == Documents(4)


def test_the_source_knows_its_splits():
    source = corpus_task("test_splits", Documents(), seqio_vocabulary(ByteTokenizer())).source
    assert set(source.splits) == {"train", "validation"} and source.list_shards("train") == ["train"]
    with pytest.raises(ValueError, match="unknown split 'test'"):
        source.get_dataset("test")
    with pytest.raises(ValueError, match="one shard"):
        source.get_dataset("train", shard_info=seqio.ShardInfo(0, 2))

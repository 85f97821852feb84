"""What SeqIO sees of a vocabulary, in Python and in TensorFlow, is what the tokenizer does."""

import pickle

import numpy as np
import pytest
import seqio
import tensorflow as tf

from tests.tokenizers import huggingface
from tests.tokenizers.texts import HARD_TEXTS, small_sentencepiece
from triarch.tasks.vocabularies import seqio_vocabulary
from triarch.tokenizers import ByteTokenizer, ExtraIds, HuggingFaceTokenizer, with_extra_ids

LAYOUTS = list(huggingface.LAYOUTS)
EXTRA = ExtraIds(modes=True, sentinels=100)
TEXTS = [*HARD_TEXTS, "a <extra_id_0> b </s> [MASK] <|endoftext|>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizers")


def _pair(folder, kind, extra=None):
    extra = extra or ExtraIds()
    if kind == "bytes":
        tokenizer = with_extra_ids(ByteTokenizer(), extra)
        return tokenizer, seqio_vocabulary(tokenizer)
    if kind == "sentencepiece":
        tokenizer = small_sentencepiece()
        (folder / "given.model").write_bytes(tokenizer.model)
        tokenizer = with_extra_ids(tokenizer, extra)
        return tokenizer, seqio_vocabulary(tokenizer, folder / "given.model")
    tokenizer = with_extra_ids(HuggingFaceTokenizer.load(huggingface.write_folder(folder / kind, kind)), extra)
    return tokenizer, seqio_vocabulary(tokenizer)


@pytest.mark.parametrize("extra", [None, EXTRA])
@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", *LAYOUTS])
def test_vocabularies_agree(folder, kind, extra):
    if kind == "t5" and extra:
        extra = ExtraIds(modes=True)
    tokenizer, vocabulary = _pair(folder, kind, extra)
    special = tokenizer.info.special
    assert (vocabulary.pad_id, vocabulary.eos_id) == (special["pad"], special["eos"])
    assert vocabulary.vocab_size == tokenizer.info.size
    dataset = tf.data.Dataset.from_tensor_slices(TEXTS).map(vocabulary.encode_tf)
    for text, graph_ids in zip(TEXTS, dataset.as_numpy_iterator(), strict=True):
        ids = tokenizer.encode(text).tolist()
        assert list(vocabulary.encode(text)) == ids == graph_ids.tolist()
        assert graph_ids.dtype == np.int32
        assert vocabulary.encode_tf(tf.constant(text)).numpy().tolist() == ids
        assert vocabulary.decode(ids) == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "gpt2", "t5"])
def test_t5s_sentinels_count_from_the_end(folder, kind):
    """As SeqIO's own: T5's preprocessors take vocab_size - 1 - k for sentinel k."""
    tokenizer, vocabulary = _pair(folder, kind, ExtraIds() if kind == "t5" else EXTRA)
    first, count = tokenizer.info.special["sentinels"]
    assert first == vocabulary.vocab_size - 1 and count == (10 if kind == "t5" else 100)


def test_extra_ids_are_seqios(folder):
    tokenizer, vocabulary = _pair(folder, "sentencepiece", ExtraIds(sentinels=100))
    reference = seqio.SentencePieceVocabulary(str(folder / "given.model"), extra_ids=100)
    assert vocabulary.vocab_size == reference.vocab_size == tokenizer.info.size
    first, count = tokenizer.info.special["sentinels"]
    assert [reference.tokenizer.id_to_piece(first - k) for k in range(count)] == [
        f"\u2581<extra_id_{k}>" for k in range(count)
    ]
    assert vocabulary.decode([first]) == reference.decode([first])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_seqio_decodes_to_the_first_end(folder, layout):
    tokenizer, vocabulary = _pair(folder, layout)
    ids = [*tokenizer.encode("the one").tolist(), vocabulary.eos_id, *tokenizer.encode("two").tolist()]
    expected = tokenizer.decode(tokenizer.encode("the one"))
    assert vocabulary.decode(ids) == expected
    assert vocabulary.decode_tf(tf.constant(ids)).numpy().decode() == expected
    batch = tf.data.Dataset.from_tensors(tf.constant([ids, ids])).map(vocabulary.decode_tf)
    assert [text.decode() for text in next(batch.as_numpy_iterator())] == [expected] * 2


def test_ids_beyond_the_vocabulary_decode_to_nothing_or_unknown(folder):
    _, vocabulary = _pair(folder, "gpt2", EXTRA)
    assert vocabulary.unk_id is None and vocabulary.decode([*vocabulary.encode("a b"), 450]) == "a b"
    _, vocabulary = _pair(folder, "bert")
    assert vocabulary.unk_id == 1


def test_hugging_face_vocabularies_are_values(folder):
    _, first = _pair(folder, "gpt2")
    _, other = _pair(folder, "llama3")
    copy = pickle.loads(pickle.dumps(first))
    assert copy == first != other and copy.encode("text") == first.encode("text")
    assert first != _pair(folder, "gpt2", EXTRA)[1] and first != seqio.ByteVocabulary()
    assert "sha256=" in str(first)


def test_a_seqio_task_with_a_hugging_face_vocabulary(folder):
    tokenizer, vocabulary = _pair(folder, "llama3")
    source = seqio.FunctionDataSource(
        lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices({"targets": TEXTS}), ["train"]
    )
    seqio.TaskRegistry.add(
        "test_huggingface_vocabulary",
        source,
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={"targets": seqio.Feature(vocabulary)},
    )
    dataset = seqio.get_mixture_or_task("test_huggingface_vocabulary").get_dataset(None, "train", shuffle=False)
    for text, example in zip(TEXTS, dataset.as_numpy_iterator(), strict=True):
        assert example["targets"].tolist() == [*tokenizer.encode(text), tokenizer.info.special["eos"]]

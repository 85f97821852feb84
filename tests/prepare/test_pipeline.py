"""A prepared store holds its corpus's tokens, all of them, once, whoever tokenized them."""

import dataclasses
import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from tests.prepare.preparing import BYTES, WINDOW, all_tokens, contents, prepared
from tests.tokenizers import huggingface
from tests.tokenizers.texts import Documents
from triarch.data import writer as writers
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.prepare import tokenization
from triarch.prepare.corpora.documents import Document
from triarch.prepare.corpora.files import Files
from triarch.prepare.corpora.selection import Filters
from triarch.prepare.corpora.splits import split_of
from triarch.prepare.pipeline import VocabularyChoice
from triarch.tokenizers import ExtraIds, load_tokenizer


@pytest.mark.parametrize(
    "vocabulary", [BYTES, VocabularyChoice(size=420), VocabularyChoice(size=360, model_type="unigram")]
)
def test_the_stream_is_the_documents(tmp_path, vocabulary):
    """Every document's text, in order, each followed by one end-of-document token; only the remainder is missing."""
    store = prepared(tmp_path / "store", vocabulary=vocabulary)
    tokenizer = load_tokenizer(store)
    eos = tokenizer.info.special["eos"]
    for split, counts in store.manifest.splits.items():
        texts = [document.text for document in Documents().documents() if split_of(document.key, 0.2) == split]
        assert counts.documents == len(texts)
        assert counts.bytes == sum(len(text.encode()) for text in texts)
        stream = all_tokens(store, split)
        assert len(stream) == counts.examples * WINDOW == counts.tokens - counts.dropped_tokens
        assert 0 <= counts.dropped_tokens < WINDOW
        expected = np.concatenate([[*tokenizer.encode(text), eos] for text in texts])
        assert len(expected) == counts.tokens
        np.testing.assert_array_equal(stream, expected[: len(stream)])
        whole = np.split(stream, np.flatnonzero(stream == eos) + 1)[:-1]
        assert [tokenizer.decode(document) for document in whole] == texts[: len(whole)]


def test_bytes_add_up(tmp_path):
    """With the byte vocabulary tokens are bytes and one end each; nothing else to count."""
    for counts in prepared(tmp_path / "store").manifest.splits.values():
        assert counts.tokens == counts.bytes + counts.documents


@pytest.mark.parametrize("vocabulary", [BYTES, VocabularyChoice(size=420)])
def test_worker_count_does_not_show(tmp_path, monkeypatch, vocabulary):
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 1000)
    alone = contents(prepared(tmp_path / "alone", vocabulary=vocabulary).path)
    assert contents(prepared(tmp_path / "shared", vocabulary=vocabulary, workers=3).path) == alone
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 2**20)
    assert contents(prepared(tmp_path / "chunk", vocabulary=vocabulary).path) == alone


def test_vocabulary_is_learnt_from_the_training_split_only(tmp_path):
    class Unseen(Documents):
        """The same training documents, other held-out ones."""

        def documents(self):
            for document in super().documents():
                held_out = split_of(document.key, 0.2) == "validation"
                yield dataclasses.replace(document, text=document.text * 3) if held_out else document

    choice = VocabularyChoice(size=420)
    first = prepared(tmp_path / "a", vocabulary=choice)
    second = prepared(tmp_path / "b", Unseen(), vocabulary=choice)
    assert first.manifest.vocabulary == second.manifest.vocabulary
    assert first.manifest.splits["validation"] != second.manifest.splits["validation"]


def test_vocabulary_of_another_store(tmp_path):
    first = prepared(tmp_path / "a", vocabulary=VocabularyChoice(size=420))
    other = Documents(20)
    second = prepared(tmp_path / "b", other, VocabularyChoice(store=first.path))
    assert second.manifest.vocabulary == first.manifest.vocabulary
    np.testing.assert_array_equal(second.token_bytes.rows(), first.token_bytes.rows())
    assert load_tokenizer(second).decode(all_tokens(second, "train")[:10])
    path = tmp_path / "given.model"
    path.write_bytes((first.path / "vocabulary" / "sentencepiece.model").read_bytes())
    third = prepared(tmp_path / "c", other, VocabularyChoice(str(path)))
    assert contents(third.path) == contents(second.path)


def test_a_lossy_model_is_said_so(tmp_path):
    model = io.BytesIO()
    texts = (document.text for document in Documents().documents())
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts, model_writer=model, vocab_size=100, minloglevel=2, **ids
    )
    (tmp_path / "lossy.model").write_bytes(model.getvalue())
    store = prepared(tmp_path / "store", vocabulary=VocabularyChoice(str(tmp_path / "lossy.model")))
    assert store.manifest.source["lossy_documents"] > 0
    assert prepared(tmp_path / "b").manifest.source["lossy_documents"] == 0


@pytest.mark.parametrize(("fraction", "splits"), [(0, {"train"}), (1, {"validation"})])
def test_a_store_of_one_split(tmp_path, fraction, splits):
    store = prepared(tmp_path / "store", vocabulary=VocabularyChoice(size=420), fraction=fraction)
    assert set(store.manifest.splits) == splits
    assert sum(split.documents for split in store.manifest.splits.values()) == 60


def test_large_vocabularies_are_stored_as_int32(tmp_path, monkeypatch):
    first = prepared(tmp_path / "a")
    monkeypatch.setattr("triarch.prepare.pipeline.UINT16_IDS", 256)
    second = prepared(tmp_path / "b")
    assert (first.manifest.dtype, second.manifest.dtype) == ("uint16", "int32")
    np.testing.assert_array_equal(all_tokens(first, "train"), all_tokens(second, "train"))


class Nothing(Documents):
    def documents(self):
        return iter(())


class Failing(Documents):
    def documents(self):
        yield from super().documents()
        raise UserError("corpus.jsonl:7: not JSON")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corpus": Nothing()}, "the corpus is empty"),
        ({"corpus": Nothing(), "vocabulary": VocabularyChoice()}, "the corpus is empty"),
        ({"corpus": Failing()}, "corpus.jsonl:7: not JSON"),
        ({"corpus": Failing(), "vocabulary": VocabularyChoice(size=420)}, "corpus.jsonl:7: not JSON"),
        ({"window": 10**6}, r"split 'train' has [\d,]+ tokens \(\d+ documents\), fewer than one window of 1000000"),
        ({"window": 10**4, "fraction": 0.03}, r"split 'validation' has [\d,]+ tokens \(\d+ documents\), fewer"),
        ({"window": 0}, "window=0"),
        ({"workers": 0}, "workers=0"),
        ({"layout": "packd"}, r"layout='packd': unknown layout \(did you mean 'packed'"),
        ({"fraction": 2}, "validation_fraction=2"),
        (
            {"filters": Filters(10**6)},
            "the corpus is empty: it holds no text .left out: 60 shorter than 1,000,000 char",
        ),
        ({"vocabulary": VocabularyChoice(size=32768)}, r"vocabulary_size=32768: too large for this text: at most \d+"),
        ({"vocabulary": VocabularyChoice("byte")}, "expected bytes, sentencepiece, or the path of a .model file"),
        ({"vocabulary": VocabularyChoice("none.model")}, "none.model: cannot be read"),
        ({"vocabulary": VocabularyChoice(store=Path("nowhere"))}, "nowhere: no such token store"),
    ],
)
def test_what_goes_wrong_is_one_line_and_leaves_nothing(tmp_path, options, message):
    with pytest.raises(UserError, match=message) as error:
        prepared(tmp_path / "store", **options)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_fails_before_any_work(tmp_path):
    store = prepared(tmp_path / "store")
    with pytest.raises(UserError, match="exists already"):
        prepared(tmp_path / "store", Failing())
    with pytest.raises(UserError, match="not JSON"):
        prepared(tmp_path / "store", Failing(), overwrite=True)
    assert TokenStore.open(store.path).manifest == store.manifest
    assert prepared(tmp_path / "store", window=32, overwrite=True).manifest.window == 32


def test_filtered_documents_are_counted(tmp_path):
    class Twice(Documents):
        def documents(self):
            yield Document("short", "short", 1)
            yield from super().documents()
            yield from super().documents()
            yield Document("long " * 10_000, "long", 1)

    filters = Filters(min_characters=6, max_characters=10_000, deduplicate=True)
    store = prepared(tmp_path / "store", Twice(), filters=filters)
    assert store.manifest.source["filters"] == {"min_characters": 6, "max_characters": 10_000, "deduplicate": True}
    assert store.manifest.source["left_out"] == {
        "shorter than 6 characters": {"count": 1, "first": []},
        "longer than 10,000 characters": {"count": 1, "first": []},
        "exact duplicate": {"count": 60, "first": ["file 0:1", "file 0:2", "file 0:3"]},
    }
    once = prepared(tmp_path / "once")
    assert store.manifest.splits == once.manifest.splits
    unlike = {"manifest.json": b""}
    assert contents(store.path) | unlike == contents(once.path) | unlike


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def write(self, record):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writers.SpooledFiles, "write", write)
    with pytest.raises(UserError, match=r"store: the disk is full"):
        prepared(tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_local_files_end_to_end(tmp_path):
    lines = [f'{{"text": "document {index} of the corpus"}}\n' for index in range(100)]
    (tmp_path / "corpus.jsonl").write_text("".join(lines))
    store = prepared(tmp_path / "store", Files((str(tmp_path / "corpus.jsonl"),)), window=16)
    assert store.manifest.source["files"][0]["size"] == sum(map(len, lines))
    assert sum(split.documents for split in store.manifest.splits.values()) == 100


def test_equal_documents_share_a_split(tmp_path):
    """A text that occurs twice is never trained on and tested on."""

    class Twice(Documents):
        def documents(self):
            for document in super().documents():
                yield document
                yield Document(document.text, document.key, 1)

    store = prepared(tmp_path / "store", Twice())
    once = prepared(tmp_path / "once")
    for split in ("train", "validation"):
        assert store.manifest.splits[split].documents == 2 * once.manifest.splits[split].documents


@pytest.mark.parametrize("layout", ["gpt2", "t5"])
def test_a_hugging_face_vocabulary(tmp_path, monkeypatch, layout):
    """The folder of a model is enough; the store carries its tokenizer, with whatever number of workers."""
    folder = huggingface.write_folder(tmp_path / "model" / "vocabulary", layout, tokenizer_config={"x": 1})
    choice = VocabularyChoice(str(folder.parent), extra=ExtraIds(modes=True))
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 1000)
    store = prepared(tmp_path / "store", vocabulary=choice, workers=2)
    assert contents(prepared(tmp_path / "alone", vocabulary=choice).path) == contents(store.path)
    names = {path.name for path in store.vocabulary_folder.iterdir()}
    assert names == {"tokenizer.json", "tokenizer_config.json"}
    tokenizer = load_tokenizer(store)
    vocabulary = store.manifest.vocabulary
    assert (
        tokenizer.info == vocabulary
        and vocabulary.kind == "huggingface"
        and set(vocabulary.special["modes"]) == {*"RSX"}
    )
    assert ("sentinels" in vocabulary.special) == (layout == "t5")
    texts = [document.text for document in Documents().documents() if split_of(document.key, 0.2) == "train"]
    reference = huggingface.LAYOUTS[layout]()
    reference.encode_special_tokens = True
    if layout == "gpt2":
        first = reference.encode(texts[0], add_special_tokens=False).ids
        assert all_tokens(store, "train")[: len(first) + 1].tolist() == [*first, vocabulary.special["eos"]]
        assert store.manifest.source["lossy_documents"] == 0
    again = prepared(tmp_path / "again", vocabulary=VocabularyChoice(store=store.path))
    assert again.manifest.vocabulary == vocabulary

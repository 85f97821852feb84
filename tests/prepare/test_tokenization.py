"""Chunks of records are of bounded size."""

import signal

import numpy as np
import pytest

from tests.prepare.preparing import BYTES, contents, hand_over_in_parts, prepared
from tests.tokenizers.huggingface import write_folder
from tests.tokenizers.texts import Documents, blocked_signals, small_sentencepiece
from triarch.cli.views.store_summary import summary
from triarch.prepare import tokenization
from triarch.prepare.corpora.documents import Document, LeftOut
from triarch.prepare.tokenization import ChunkTokenizer, tokenize
from triarch.prepare.vocabulary_choice import VocabularyChoice
from triarch.tokenizers import MODEL_FILE, ByteTokenizer, HuggingFaceTokenizer, cuts


@pytest.mark.parametrize(
    ("vocabulary", "layout", "workers"),
    [
        (BYTES, "windows", 2),
        (BYTES, "packed", 1),
        (VocabularyChoice(size=420), "windows", 1),
        (VocabularyChoice(size=360, model_type="unigram"), "packed", 1),
    ],
    ids=["bytes, two processes", "bytes, packed", "bpe", "unigram, packed"],
)
def test_parts_of_documents_do_not_show(tmp_path, monkeypatch, vocabulary, layout, workers):
    whole = prepared(tmp_path / "whole", vocabulary=vocabulary, layout=layout)
    hand_over_in_parts(monkeypatch)
    chunks = list(tokenize(Documents().documents(), ChunkTokenizer(ByteTokenizer(), "uint16", 0.2), 1))
    assert sum(chunk.records for chunk in chunks) == 60 < len(chunks)
    parted = prepared(tmp_path / "parted", vocabulary=vocabulary, layout=layout, workers=workers)
    assert contents(parted.path) == contents(whole.path)


def test_a_document_that_loses_something_in_one_part_is_lossy(tmp_path, monkeypatch):
    hand_over_in_parts(monkeypatch, 20, 5)
    monkeypatch.setattr(ByteTokenizer, "encode", lambda self, text: np.array([ord(letter) + 3 for letter in text]))
    texts = ["a" * 30 + "\u00e9" + "a" * 30, "b" * 70, "\u00e9"]
    corpus = Documents()
    monkeypatch.setattr(Documents, "documents", lambda self: (Document(text, text, 1) for text in texts))
    store = prepared(tmp_path / "store", corpus, fraction=0, window=16)
    assert store.manifest.source["lossy_documents"] == 2
    assert store.manifest.splits["train"].tokens == sum(map(len, texts)) + 3


def test_documents_that_offer_no_certain_cut_are_counted(tmp_path, monkeypatch):
    """And tokenized alike, whether in one process, in one go, or by several."""
    small_sentencepiece().save(tmp_path)
    texts = ["the" + " " * 1000, "a short one", "to " * 300, " " * 500]
    monkeypatch.setattr(Documents, "documents", lambda self: (Document(text, text, 1) for text in texts))
    hand_over_in_parts(monkeypatch, part=150)
    monkeypatch.setattr(cuts, "_WORDS_WITHIN", 20)
    vocabulary = VocabularyChoice(str(tmp_path / MODEL_FILE))
    parted = prepared(tmp_path / "parted", vocabulary=vocabulary, fraction=0, window=16)
    assert parted.manifest.source["parted_documents"] == 2
    assert "2 long documents were tokenized in parts" in "\n".join(summary(parted))
    others = prepared(tmp_path / "others", vocabulary=vocabulary, fraction=0, window=16, workers=2)
    monkeypatch.setattr(tokenization, "_LONG_CHARACTERS", 10**6)
    in_one_go = prepared(tmp_path / "in_one_go", vocabulary=vocabulary, fraction=0, window=16)
    assert contents(parted.path) == contents(others.path) == contents(in_one_go.path)


def test_what_is_under_way_is_bounded(monkeypatch):
    """Long documents that cannot be taken apart are not handed over."""
    monkeypatch.setattr(tokenization, "_CHARACTERS_A_WORKER", 1000)
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 100)
    read = []

    def records():
        for size in (10, 10, 3000, 10, 3000, 3000, 10):
            read.append(size)
            yield Document("x" * size, "x", 1, "y")

    work = ChunkTokenizer(ByteTokenizer(), "uint16", 0, {"inputs": 8, "targets": 8})
    ahead = []
    for chunk in tokenize(records(), work, workers=2):
        ahead.append(len(read))
        assert chunk.splits["train"].lengths.tolist()[:2] == [2, 8]
    # A long one is read before the ones ahead of it are waited for, and nothing is read before it is done.
    assert ahead == [3, 3, 3, 5, 5, 6, 7]


@pytest.mark.parametrize(
    ("record", "most"),
    [
        (Document("x", "x", 1), 10),
        (Document("x", "x", 1, inputs="y" * 400), 2),
        (Document("x" * 400, "x", 1), 2),
        (LeftOut("empty", "", 1), 10),
    ],
    ids=["short", "long inputs", "long", "left out"],
)
def test_a_chunk_holds_few_records(monkeypatch, record, most):
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 1000)
    lengths = None if getattr(record, "inputs", None) is None else {"inputs": 500, "targets": 500}
    chunks = list(tokenize([record] * 25, ChunkTokenizer(ByteTokenizer(), "uint16", 0, lengths), workers=1))
    assert [chunk.records for chunk in chunks] == [most] * (25 // most) + [25 % most] * (25 % most > 0)


def test_ctrl_c_reaches_the_parent_alone(monkeypatch):
    """From the first moment of a worker on: in the middle of its imports it would show a traceback."""
    monkeypatch.setattr(tokenization, "_run_worker", blocked_signals)
    work = ChunkTokenizer(ByteTokenizer(), "uint16", 0.2)
    assert list(tokenize(Documents().documents(), work, workers=2)) == [{signal.SIGINT}]
    assert signal.SIGINT not in blocked_signals([])


def test_a_space_that_a_tokenizer_puts_before_texts_is_no_loss(tmp_path):
    """Nor is it counted; what a normalizer takes away is."""
    tokenizer = HuggingFaceTokenizer.load(write_folder(tmp_path, "t5"))
    texts = ["the cat", "a", "so it is"]
    records = [Document(text, text, 1) for text in texts]
    found = ChunkTokenizer(tokenizer, "int32", 0.0)(records).splits["train"]
    assert (found.lossy_documents, found.bytes) == (0, sum(len(text.encode()) for text in texts))

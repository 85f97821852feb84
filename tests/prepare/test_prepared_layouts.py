"""Packed documents and pairs in a prepared store."""

import dataclasses

import numpy as np
import pytest

from tests.prepare.preparing import BYTES, CORPUS, contents, prepared
from tests.tokenizers.texts import Documents
from triarch.data.batches import Batches
from triarch.data.streams import Epochs
from triarch.errors import UserError
from triarch.objectives import CausalLM, SpecialTokens
from triarch.prepare import tokenization
from triarch.prepare.corpora.splits import split_of
from triarch.prepare.pipeline import VocabularyChoice
from triarch.tokenizers import ByteTokenizer, load_tokenizer


@pytest.mark.parametrize("vocabulary", [BYTES, VocabularyChoice(size=420)])
def test_packed_documents(tmp_path, monkeypatch, vocabulary):
    """Every document is whole in a segment of its own, but for those longer than an example."""
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 1000)
    store = prepared(tmp_path / "store", vocabulary=vocabulary, layout="packed", window=400)
    tokenizer = load_tokenizer(store)
    assert store.manifest.layout == "packed"
    for split, counts in store.manifest.splits.items():
        reader = store.split(split)
        pieces = []
        for index in range(len(reader)):
            example = reader[index]
            assert example["tokens"].shape == example["segment_ids"].shape == (400,)
            assert (example["tokens"][example["segment_ids"] == 0] == tokenizer.info.special["pad"]).all()
            for number in range(1, example["segment_ids"].max() + 1):
                pieces.append(example["tokens"][example["segment_ids"] == number].tolist())
        assert sum(map(len, pieces)) == counts.tokens and counts.dropped_tokens == 0
        texts = [document.text for document in Documents().documents() if split_of(document.key, 0.2) == split]
        expected = [[*tokenizer.encode(text).tolist(), tokenizer.info.special["eos"]] for text in texts]
        cut = [tokens[start : start + 400] for tokens in expected for start in range(0, len(tokens), 400)]
        assert sorted(pieces) == sorted(cut)
        assert counts.documents == len(texts)
    other = prepared(tmp_path / "other", vocabulary=vocabulary, layout="packed", window=400, workers=2)
    assert contents(other.path) == contents(store.path)
    assert store.manifest.fingerprint != prepared(tmp_path / "windows", vocabulary=vocabulary).manifest.fingerprint


def test_a_packed_split_shorter_than_a_window(tmp_path):
    store = prepared(tmp_path / "store", Documents(3), fraction=0, layout="packed", window=100_000)
    assert store.manifest.splits["train"].examples == 1
    assert store.split("train")[0]["segment_ids"].max() == 3


def test_an_objective_reads_packed_documents(tmp_path):
    """SeqIO's positions and segments, from the store to the batch."""
    store = prepared(tmp_path / "store", layout="packed", window=400)
    special = SpecialTokens.from_manifest(store.manifest.vocabulary.special)
    transform = CausalLM().transform("decoder-only", special, store.manifest.vocabulary.size, 400)
    batch = Batches(Epochs(store.split("train"), transform, seed=0), 4).batch(0)
    segments, positions = batch["decoder_segment_ids"], batch["decoder_positions"]
    starts = np.diff(segments, prepend=0, axis=1) != 0
    assert (positions[starts] == 0).all() and segments.max() > 1
    # No end of a document predicts the beginning of the next.
    assert (batch["decoder_input_tokens"][starts & (segments > 0)] == special.bos).all()
    assert not batch["decoder_loss_weights"][segments == 0].any()


@dataclasses.dataclass(frozen=True)
class Questions(Documents):
    """Examples of inputs and targets."""

    inputs_field: str = "inputs"

    def documents(self):
        for index, document in enumerate(super().documents()):
            inputs = "" if index == 5 else f"question {index}"
            yield dataclasses.replace(document, inputs=inputs, key=f"{inputs}\n{document.text}")


@pytest.mark.parametrize("workers", [1, 2])
def test_pairs(tmp_path, monkeypatch, workers):
    """An example is a record: nothing is packed, and both sides end with the end-of-document token."""
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 1000)
    lengths = {"inputs": 11, "targets": 200}
    store = prepared(tmp_path / "store", Questions(), layout="pairs", lengths=lengths, workers=workers)
    assert store.manifest.layout == "pairs" and store.manifest.lengths == lengths and store.manifest.window == 211
    tokenizer, cut = ByteTokenizer(), 0
    for split, counts in store.manifest.splits.items():
        reader = store.split(split)
        documents = [document for document in Questions().documents() if split_of(document.key, 0.2) == split]
        assert counts.documents == counts.examples == len(reader) == len(documents)
        assert counts.tokens == sum(len(side) for index in range(len(reader)) for side in reader[index].values())
        for index, document in enumerate(documents):
            inputs, targets = tokenizer.encode(document.inputs)[:10], tokenizer.encode(document.text)[:199]
            cut += len(document.inputs) > 10 or len(document.text.encode()) > 199
            np.testing.assert_array_equal(reader[index]["inputs"], [*inputs, 1])
            np.testing.assert_array_equal(reader[index]["targets"], [*targets, 1])
    assert store.manifest.source["cut_documents"] == cut > 0


def test_packed_pairs(tmp_path, monkeypatch):
    """The pairs of the other layout, each once, several to a row; any number of processes writes the same."""
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 1000)
    lengths = {"inputs": 40, "targets": 1500}
    options = {"corpus": Questions(), "lengths": lengths}
    store = prepared(tmp_path / "store", layout="packed_pairs", **options)
    other = prepared(tmp_path / "other", layout="packed_pairs", workers=2, **options)
    assert contents(other.path) == contents(store.path)
    pairs = prepared(tmp_path / "pairs", layout="pairs", **options)
    assert (store.manifest.layout, store.manifest.lengths, store.manifest.window) == ("packed_pairs", lengths, 1540)
    assert store.manifest.source == pairs.manifest.source
    for split, counts in store.manifest.splits.items():
        reader, alone = store.split(split), pairs.split(split)
        found = []
        for index in range(len(reader)):
            row = reader[index]
            targets = (row["segment_ids"] > 0).sum() - row["num_inputs"].sum()
            assert row["num_inputs"].sum() <= 40 and targets <= 1500 and row["tokens"].shape == (1540,)
            for number, inputs in enumerate(row["num_inputs"], start=1):
                text = row["tokens"][row["segment_ids"] == number].tolist()
                found.append((text[:inputs], text[inputs:]))
        expected = [
            (pair["inputs"].tolist(), pair["targets"].tolist()) for pair in map(alone.__getitem__, range(len(alone)))
        ]
        assert sorted(found) == sorted(expected)
        assert (counts.documents, counts.dropped_tokens) == (len(expected), 0) and counts.examples < len(expected)
        assert counts.tokens == pairs.manifest.splits[split].tokens


@pytest.mark.parametrize("layout", ["pairs", "packed_pairs"])
@pytest.mark.parametrize(
    ("corpus", "lengths", "message"),
    [
        (CORPUS, {"inputs": 8, "targets": 8}, "the documents of test have no inputs: name their field with --inputs_f"),
        (Questions(), {"inputs": 0, "targets": 8}, "max_inputs=0: expected at least 1"),
        (Questions(), {"inputs": 8}, "max_targets=None: expected at least 1"),
    ],
)
def test_pairs_that_cannot_be(tmp_path, corpus, layout, lengths, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path / "store", corpus, layout=layout, lengths=lengths)

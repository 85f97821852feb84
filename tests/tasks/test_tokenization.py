"""Chunks of records are of bounded size."""

import pytest

from triarch.tasks import tokenization
from triarch.tasks.documents import Document, LeftOut
from triarch.tasks.tokenization import ChunkTokenizer, tokenize
from triarch.tasks.tokenizers import ByteTokenizer


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

"""A tokenized chunk is the same after it travelled as bytes."""

import dataclasses

import numpy as np
import pytest

from tests.tokenizers.texts import Documents
from triarch.prepare.chunk_blocks import from_block, to_block
from triarch.prepare.corpora.documents import LeftOut
from triarch.prepare.tokenization import ChunkTokenizer
from triarch.tokenizers import ByteTokenizer

LEFT_OUT = [LeftOut("not JSON", "a\u00e9.jsonl:3", 17), LeftOut("empty", "", 0)]


def _fields(value):
    """Plain values of a chunk, arrays with their types."""
    if isinstance(value, np.ndarray):
        return value.dtype, value.tolist()
    if dataclasses.is_dataclass(value):
        return [_fields(getattr(value, field.name)) for field in dataclasses.fields(value)]
    return {key: _fields(entry) for key, entry in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
@pytest.mark.parametrize("fraction", [0, 0.3, 1])
def test_nothing_changes(dtype, fraction):
    documents = list(Documents().documents())
    for records in ([*documents, *LEFT_OUT], documents[:1], LEFT_OUT, []):
        chunk = ChunkTokenizer(ByteTokenizer(), dtype, fraction)(records)
        assert _fields(from_block(to_block(chunk))) == _fields(chunk)


def test_damage_is_noticed():
    block = to_block(ChunkTokenizer(ByteTokenizer(), "uint16", 0.3)(list(Documents().documents())))
    middle = len(block) // 2
    for damaged in (block[:middle], b"", block[:middle] + bytes([block[middle] ^ 1]) + block[middle + 1 :]):
        with pytest.raises(ValueError, match="damaged block"):
            from_block(damaged)

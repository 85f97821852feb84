"""Tokenized chunks as bytes, written by one machine and read by another: NumPy's format, without pickles."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from triarch.prepare.corpora.documents import LeftOut
from triarch.prepare.corpora.origins import Origins
from triarch.prepare.tokenization import TokenizedChunk, TokenizedSplit

_HEADER = "header"
_COUNTS = ("documents", "bytes", "token_bytes", "lossy_documents", "cut_documents", "parted_documents", "tasks")


def to_block(chunk: TokenizedChunk) -> bytes:
    """Returns all that `chunk` holds."""
    header: dict[str, Any] = {
        "splits": {},
        "left_out": [(record.reason, record.place, record.progress) for record in chunk.left_out],
        "records": chunk.records,
        "progress": chunk.progress,
    }
    arrays: dict[str, Any] = {}
    for name, split in chunk.splits.items():
        header["splits"][name] = {count: getattr(split, count) for count in _COUNTS}
        header["splits"][name]["sources"] = split.origins.sources
        arrays |= {f"{name}.tokens": split.tokens, f"{name}.lengths": split.lengths, f"{name}.rows": split.origins.rows}
    block = io.BytesIO()
    arrays[_HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(block, **arrays)
    return block.getvalue()


def from_block(block: bytes) -> TokenizedChunk:
    """Returns what `to_block` was given.

    Raises:
      ValueError: the block is damaged.
    """
    try:
        with np.load(io.BytesIO(block), allow_pickle=False) as arrays:
            header = json.loads(arrays[_HEADER].tobytes())
            splits = {name: _split(name, fields, arrays) for name, fields in header["splits"].items()}
    except Exception as error:  # Of zipfile, zlib, json and NumPy.
        raise ValueError(f"damaged block: {error}") from None
    left_out = [LeftOut(*fields) for fields in header["left_out"]]
    return TokenizedChunk(splits, left_out, header["records"], header["progress"])


def _split(name: str, fields: dict[str, Any], arrays: Any) -> TokenizedSplit:
    return TokenizedSplit(
        tokens=arrays[f"{name}.tokens"],
        lengths=arrays[f"{name}.lengths"],
        origins=Origins(tuple(fields["sources"]), arrays[f"{name}.rows"]),
        **{count: fields[count] for count in _COUNTS},
    )

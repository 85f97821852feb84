"""Reads documents back from where provenance says they lie: without triarch's readers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import zstandard

from triarch.data.provenance import PART_NAMES, Pieces
from triarch.tasks.tokenizers import Tokenizer


def decompressed(path: str) -> bytes:
    """Returns what the file holds."""
    raw = Path(path).read_bytes()
    if path.endswith(".gz"):
        return gzip.decompress(raw)
    return zstandard.ZstdDecompressor().decompressobj().decompress(raw) if path.endswith(".zst") else raw


def texts_at(source: str, record: int, start: int, end: int, fields: Sequence[str]) -> list[str]:
    """Returns the texts of one record of a file, those of JSON lines by their bytes alone."""
    if source.endswith(".parquet"):
        row = pyarrow.parquet.read_table(source).slice(record - 1, 1).to_pylist()[0]
        return [row[field] for field in fields]
    if source.endswith(".arrow"):
        row = pa.ipc.open_file(source).read_all().slice(record - 1, 1).to_pylist()[0]
        return [row[field] for field in fields]
    data = decompressed(source)
    assert data[:start].count(b"\n") == record - 1
    if ".jsonl" in source:
        return [json.loads(data[start:end])[field] for field in fields]
    return [data[start:end].decode()]


def retokenized(
    pieces: Pieces,
    sources: Sequence[str],
    tokenizer: Tokenizer,
    fields: Sequence[str],
    cut: Sequence[int] | None = None,
) -> dict[int, dict[str, list[int]]]:
    """Returns, of each example, the tokens of its parts made anew from the files.

    Args:
      pieces: of examples.
      sources: names of the files.
      tokenizer: of the store.
      fields: of a record: of its text, or of its inputs and targets.
      cut: of pairs, the most tokens of inputs and of targets.
    """
    examples: dict[int, dict[str, list[int]]] = {}
    for number in range(len(pieces.place)):
        place, part, start, end = (
            int(column[number]) for column in (pieces.place, pieces.part, pieces.token_start, pieces.token_end)
        )
        where = [int(column[number]) for column in (pieces.record, pieces.byte_start, pieces.byte_end)]
        texts = texts_at(sources[pieces.source[number]], *where, fields)
        if cut is None and len(texts) == 2:
            texts = ["\n".join(texts)]
        tokens = [*tokenizer.encode(texts[max(0, part - 1)]).tolist(), tokenizer.info.special["eos"]]
        assert len(tokens) == pieces.document_tokens[number]
        if cut is not None and len(tokens) > cut[part - 1]:
            tokens = [*tokens[: cut[part - 1] - 1], tokens[-1]]
        examples.setdefault(place, {}).setdefault(PART_NAMES[part], []).extend(tokens[start:end])
    return examples


def same_tokens(example: dict[str, np.ndarray], parts: dict[str, list[int]]) -> bool:
    """Returns whether what was made anew is what the example holds, without padding."""
    if "inputs" in example:
        return {name: example[name].tolist() for name in ("inputs", "targets")} == parts
    tokens = example["tokens"]
    if "segment_ids" in example:
        tokens = tokens[example["segment_ids"] > 0]
    return parts == {"text": tokens.tolist()}

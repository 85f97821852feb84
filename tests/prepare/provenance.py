"""Reads documents back from where provenance says they lie: without triarch's readers."""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import zstandard

from triarch.data.provenance import PART_NAMES, Pieces
from triarch.tokenizers import Tokenizer


@functools.lru_cache(maxsize=8)
def decompressed(path: str) -> bytes:
    """Returns what the file holds."""
    raw = Path(path).read_bytes()
    if path.endswith(".gz"):
        return gzip.decompress(raw)
    return zstandard.ZstdDecompressor().decompressobj().decompress(raw) if path.endswith(".zst") else raw


@functools.lru_cache(maxsize=8)
def _parquet(path: str) -> list[dict[str, str]]:
    return pyarrow.parquet.read_table(path).to_pylist()


def texts_at(source: str, record: int, start: int, end: int, fields: Sequence[str]) -> list[str]:
    """Returns the texts of one record of a file, those of JSON lines by their bytes alone."""
    if source.endswith(".parquet"):
        row = _parquet(source)[record - 1]
        return [row[field] for field in fields]
    data = decompressed(source)
    assert data[:start].count(b"\n") == record - 1
    if ".jsonl" in source:
        return [json.loads(data[start:end])[field] for field in fields]
    # Windows' line ends of text files are read as others.
    return [data[start:end].decode().replace("\r\n", "\n")]


def tokens_of(
    row: Mapping[str, Any], tokenizer: Tokenizer, fields: Sequence[str], cut: Mapping[str, int] | None = None
) -> list[int]:
    """Returns the tokens of a run of a document's tokens, made anew from its file.

    Args:
      row: as `triarch order` writes it.
      tokenizer: of the store.
      fields: of a record: of its text, or of its inputs and targets.
      cut: of pairs, the most tokens of inputs and of targets.
    """
    texts = texts_at(*(row[name] for name in ("source", "record", "byte_start", "byte_end")), fields)
    text = texts[row["part"] == "targets"] if cut else "\n".join(texts)
    tokens = [*tokenizer.encode(text).tolist(), tokenizer.info.special["eos"]]
    assert len(tokens) == row["document_tokens"]
    if cut and len(tokens) > cut[row["part"]]:
        tokens = [*tokens[: cut[row["part"]] - 1], tokens[-1]]
    return tokens[row["token_start"] : row["token_end"]]


def retokenized(
    pieces: Pieces,
    sources: Sequence[str],
    tokenizer: Tokenizer,
    fields: Sequence[str],
    cut: Mapping[str, int] | None = None,
) -> dict[int, dict[str, list[int]]]:
    """Returns, of each example, the tokens of its parts made anew: see `tokens_of`."""
    examples: dict[int, dict[str, list[int]]] = {}
    for values in zip(*(column.tolist() for column in vars(pieces).values()), strict=True):
        row = dict(zip(vars(pieces), values, strict=True))
        row |= {"source": sources[row["source"]], "part": PART_NAMES[row["part"]]}
        tokens = tokens_of(row, tokenizer, fields, cut)
        examples.setdefault(row["place"], {}).setdefault(row["part"], []).extend(tokens)
    return examples


def same_tokens(example: dict[str, np.ndarray], parts: dict[str, list[int]]) -> bool:
    """Returns whether what was made anew is what the example holds, without padding."""
    if "inputs" in example:
        return {name: example[name].tolist() for name in ("inputs", "targets")} == parts
    tokens = example["tokens"]
    if "num_inputs" in example:
        segments, num_inputs = example["segment_ids"], example["num_inputs"]
        documents = [np.split(tokens[segments == n], [count]) for n, count in enumerate(num_inputs, start=1)]
        both = zip(("inputs", "targets"), zip(*documents, strict=True), strict=True)
        return {name: np.concatenate(texts).tolist() for name, texts in both} == parts
    if "segment_ids" in example:
        tokens = tokens[example["segment_ids"] > 0]
    return parts == {"text": tokens.tolist()}

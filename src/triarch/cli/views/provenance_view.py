"""Where tokens come from, in a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from triarch.data.store import TokenStore

# Runs of tokens shown of an example; of short documents a window holds dozens.
_SHOWN = 8


def described(row: Mapping[str, Any]) -> str:
    """Returns a line for a run of a document's tokens: its file, record and bytes, and which of its tokens these are.

    Args:
      row: "source", "record", "byte_start", "byte_end", "part", "token_start", "token_end" and "document_tokens" as of
        `Pieces`, names in place of numbers and None for what there is not.
    """
    place = row["source"] or "(the corpus does not say where)"
    if row["record"] is not None:
        place += f":{row['record']}"
    if row["byte_start"] is not None:
        place += f" bytes {row['byte_start']}-{row['byte_end']}"
    part = "" if row["part"] == "text" else f"{row['part']}, "
    return f"{place}: {part}tokens {row['token_start']}-{row['token_end']} of {row['document_tokens']}"


def shown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the lines of an example's runs of tokens, not too many."""
    lines = [f"from {described(row)}" for row in rows[:_SHOWN]]
    return lines if len(rows) <= _SHOWN else [*lines, f"and {len(rows) - _SHOWN} more"]


def origins(store: TokenStore, split: str, examples: Sequence[int]) -> list[list[dict[str, Any]]] | None:
    """Returns the runs of tokens of each of `examples`, for `described`; None if the store does not tell.

    Raises:
      UserError: the store's provenance is damaged.
    """
    from triarch.data.provenance import PART_NAMES
    from triarch.data.tables import MISSING

    if store.manifest.provenance is None:
        return None
    provenance = store.provenance(split)
    pieces = provenance.pieces(np.array(examples, np.int64))
    names = [field.name for field in dataclasses.fields(pieces)]
    found: list[list[dict[str, Any]]] = [[] for _ in examples]
    for values in zip(*(getattr(pieces, name).tolist() for name in names), strict=True):
        own = dict(zip(names, values, strict=True))
        row = {name: None if value == MISSING else value for name, value in own.items() if name != "place"}
        row |= {"source": provenance.sources[own["source"]], "part": PART_NAMES[own["part"]]}
        found[own["place"]].append(row)
    return found

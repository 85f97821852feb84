"""safetensors files written as their tensors come, so that none but the one at hand is in memory.

The format (https://huggingface.co/docs/safetensors): 8 bytes little-endian length of the header, the header as JSON
(for each tensor type, shape, and where its bytes begin and end), then the tensors' bytes. The library writes it only
from tensors that are all in memory; it reads, and thereby checks, what is written here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from triarch.errors import UserError
from triarch.interchange.huggingface.reader import INDEX, STORED_TYPES, WEIGHTS, open_tensors
from triarch.interchange.orbax_folder import DTYPES
from triarch.interchange.streamed import contiguous_blocks

_WORDS = {name: word for word, name in STORED_TYPES.items()}
_ALIGNMENT = 8


@dataclasses.dataclass(frozen=True)
class Planned:
    """A tensor to be written."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def write_tensors(
    folder: Path, plan: Sequence[Planned], tensors: Iterable[Iterable[np.ndarray]], max_shard_bytes: int
) -> None:
    """Writes tensors in the order of `plan` into files of at most `max_shard_bytes`, and an index if there are several.

    Args:
      folder: where to.
      plan: what comes, in order.
      tensors: one for each of the plan, as consecutive blocks of its rows, in any memory layout.
      max_shard_bytes: a tensor larger than that gets a file of its own.

    Raises:
      UserError: what was written cannot be read back.
    """
    shards = _shards(plan, max_shard_bytes)
    total = len(shards)
    names = [WEIGHTS] if total == 1 else [f"model-{i:05}-of-{total:05}.safetensors" for i in range(1, total + 1)]
    source = iter(tensors)
    for name, shard in zip(names, shards, strict=True):
        with (folder / name).open("wb") as file:
            file.write(_header(shard))
            for planned in shard:
                _write(file, planned, next(source))
            file.flush()
            os.fsync(file.fileno())
    if total > 1:
        places = {planned.name: name for name, shard in zip(names, shards, strict=True) for planned in shard}
        size = sum(planned.num_bytes for planned in plan)
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    found = {name: entry.shape for name, entry in open_tensors(folder).entries.items()}
    if found != {planned.name: planned.shape for planned in plan}:
        raise UserError(f"{folder}: what was written is not what is read back")


def _shards(plan: Sequence[Planned], max_bytes: int) -> list[list[Planned]]:
    shards: list[list[Planned]] = [[]]
    room = max_bytes
    for planned in plan:
        if shards[-1] and planned.num_bytes > room:
            shards.append([])
            room = max_bytes
        shards[-1].append(planned)
        room -= planned.num_bytes
    return shards


def _header(shard: Sequence[Planned]) -> bytes:
    fields: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for planned in shard:
        end = start + planned.num_bytes
        shape = list(planned.shape)
        fields[planned.name] = {"dtype": _WORDS[planned.dtype], "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _write(file: BinaryIO, planned: Planned, parts: Iterable[np.ndarray]) -> None:
    rows = 0
    for part in parts:
        assert part.dtype == DTYPES[planned.dtype] and part.shape[1:] == planned.shape[1:], planned.name
        for block in contiguous_blocks(part):
            file.write(block.reshape(-1).view(np.uint8).data)
        rows += len(part)
    assert rows == planned.shape[0], planned.name

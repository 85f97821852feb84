"""The arrays of a T5X checkpoint: those in its index, and zarr arrays beside it, read by TensorStore.

An array's own `.zarray` is the truth about its shape and type. All its chunks must be there: T5X gives no fill value,
so that TensorStore stores even those of zeros, yet reads one that is missing as zeros.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorstore as ts

from triarch import schema
from triarch.errors import UserError
from triarch.files import regular_files
from triarch.interchange.t5x.index import ArrayPlace, Index
from triarch.schema import Anything, Items, Record, Text, Whole

_ZARRAY = ".zarray"
_SCHEMA = Record(
    {
        "zarr_format": Whole(2, 2),
        "shape": Items(Whole(), most=8),
        "chunks": Items(Whole(1), most=8),
        "dtype": Text(),
        "order": Text(("C", "F")),
        "compressor": Anything(),
    },
    others=True,
)
_TYPES = {"<f4": "float32", "<f2": "float16", "bfloat16": "bfloat16", "<u2": "uint16"}
# Chunks of scanned arrays hold several layers, which are asked for one by one.
_CACHE_BYTES = 2**30
_MOST_ZARRAY_BYTES = 2**20


class Array(Protocol):
    """An array that can be read in parts.

    Attributes:
      file: that holds it, for messages.
      shape: sizes of its dimensions.
      dtype: name of its type.
    """

    @property
    def file(self) -> Path: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str: ...

    def read(self, index: tuple[int | slice, ...]) -> np.ndarray:
        """Returns a part of it."""
        ...


@dataclasses.dataclass(frozen=True)
class InIndex:
    """An array that stands in the index itself."""

    file: Path
    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> str:
        return _typed(self.values.dtype.name)

    def read(self, index: tuple[int | slice, ...]) -> np.ndarray:
        return _bits(self.values[index])


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array beside the index."""

    file: Path
    shape: tuple[int, ...]
    dtype: str

    def read(self, index: tuple[int | slice, ...]) -> np.ndarray:
        """Returns a part of it.

        Raises:
          UserError: a chunk is damaged.
        """
        try:
            return _bits(self._opened[index].read().result())
        except (ValueError, OSError, IndexError) as error:
            raise _damaged(self.file, error) from None

    @functools.cached_property
    def _opened(self) -> Any:
        kvstore = {"driver": "file", "path": f"{self.file.resolve()}/"}
        spec = {"driver": "zarr", "kvstore": kvstore, "recheck_cached_data": False}
        return ts.open(spec, read=True, open=True, context=_context()).result()


def open_arrays(index: Index) -> dict[str, Array]:
    """Returns a checkpoint's parameters by name, after looking at what says their shapes and at the names of chunks.

    Raises:
      UserError: one is missing, incomplete, or not the zarr array that it should be; a link leaves the folder.
    """
    return {
        name: _stored(index.path.parent, name, leaf) if isinstance(leaf, ArrayPlace) else InIndex(index.path, leaf)
        for name, leaf in index.parameters.items()
    }


def _stored(home: Path, name: str, place: ArrayPlace) -> Stored:
    folder = home / place.name
    if not folder.is_dir():
        raise UserError(f"{folder}: the array {name!r} is missing, although the index lists it")
    files = {path.relative_to(folder).as_posix() for path in regular_files(folder, home)}
    try:
        fields = schema.read(folder / _ZARRAY, _SCHEMA, home=home, most_bytes=_MOST_ZARRAY_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: not a zarr array: it holds no {_ZARRAY}") from None
    shape, chunks = tuple(fields["shape"]), tuple(fields["chunks"])
    if place.shape is not None and place.shape != shape:
        raise UserError(f"{folder}: has shape {list(shape)}, the index makes it {list(place.shape)}")
    if len(chunks) != len(shape) or any(size > max(1, whole) for size, whole in zip(chunks, shape, strict=True)):
        raise UserError(f"{folder / _ZARRAY}: chunks = {list(chunks)} do not divide an array of shape {list(shape)}")
    _check_chunks(folder, shape, chunks, fields.get("dimension_separator") or ".", files)
    return Stored(folder, shape, _typed(_TYPES.get(fields["dtype"], fields["dtype"])))


def _check_chunks(folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...], separator: str, files: set) -> None:
    counts = [-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)]
    expected = math.prod(counts)
    if expected < len(files):  # One more file says what the array is.
        numbers = itertools.product(*map(range, counts))
        names = (separator.join(map(str, numbers_of_one)) or "0" for numbers_of_one in numbers)
        if all(name in files for name in names):
            return
    found = len(files - {_ZARRAY, ".zattrs"})
    raise UserError(f"{folder}: chunks of the array are missing: {found:,} files, expected {expected:,}: copy it again")


def _typed(name: str) -> str:
    # Version 2, and what T5X takes any such array for.
    return "bfloat16" if name == "uint16" else name


def _bits(values: np.ndarray) -> np.ndarray:
    return values.view("bfloat16") if values.dtype == np.uint16 else values


@functools.cache
def _context() -> ts.Context:
    return ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})


def _damaged(file: Path, error: Exception) -> UserError:
    reason = str(error).split(" [source locations")[0].split("\n")[0]
    return UserError(f"{file}: a file of the array is damaged: {reason[:200]}")

"""The tensors of a Hugging Face folder: one safetensors file, or several with an index."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes  # noqa: F401  By it numpy knows "bfloat16".
import numpy as np
import safetensors

from triarch import schema
from triarch.errors import UserError
from triarch.files import check_regular
from triarch.interchange.orbax_folder import DTYPES
from triarch.schema import FileName, Record, Table

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
STORED_TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_INDEX_SCHEMA = Record({"weight_map": Table(FileName(), least=1)}, others=True)
_PICKLES = ("*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.ckpt")


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a tensor lies, and what it is.

    Attributes:
      file: that holds it.
      stored_name: its name there.
      shape: sizes of its dimensions.
      dtype: the file's own word for its type.
    """

    file: Path
    stored_name: str
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Tensors:
    """A folder's tensors by name; `read` reads one."""

    folder: Path
    entries: Mapping[str, Entry]

    def dtype(self, name: str) -> np.dtype:
        """Returns the type of a tensor.

        Raises:
          UserError: it is not one that parameters come in.
        """
        entry = self.entries[name]
        if entry.dtype not in STORED_TYPES:
            expected = ", ".join(STORED_TYPES)
            raise UserError(f"{entry.file}: tensor {name!r} has type {entry.dtype}, expected one of {expected}")
        return DTYPES[STORED_TYPES[entry.dtype]]

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """Reads a tensor, or some of its rows.

        Raises:
          UserError: its file cannot be read.
        """
        file = self.entries[name].file
        stored_name = self.entries[name].stored_name
        try:
            # The pages of a memory map would count as this process's memory; but only a map reads some rows alone.
            with safetensors.safe_open(file, framework="np", backend="pread" if rows is None else "mmap") as opened:
                return opened.get_tensor(stored_name) if rows is None else opened.get_slice(stored_name)[rows]
        except (OSError, safetensors.SafetensorError) as error:
            raise _damaged(file, error) from None


def open_tensors(folder: Path) -> Tensors:
    """Reads the headers of a folder's safetensors files.

    Raises:
      UserError: there are none, or only pickles; one is missing, cut short or no safetensors file; the index names a
        tensor that is not there.
    """
    if (folder / INDEX).exists():
        return _open_shards(folder)
    if (folder / WEIGHTS).exists():
        return Tensors(folder, _entries(folder / WEIGHTS))
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise UserError(
            f"{folder / pickles[0]}: pickled weights are not read, since loading a pickle runs whatever code it "
            f"holds; have transformers write {WEIGHTS} first: AutoModel...from_pretrained(IN).save_pretrained(OUT)"
        )
    raise UserError(f"{folder}: holds neither {WEIGHTS} nor {INDEX}")


def _open_shards(folder: Path) -> Tensors:
    places = schema.read(folder / INDEX, _INDEX_SCHEMA)["weight_map"]
    names = sorted(set(places.values()))
    entries: dict[str, Entry] = {}
    for name in names:
        if not (folder / name).exists():
            raise UserError(f"{folder / name}: missing, although {INDEX} lists it")
        entries |= _entries(folder / name)
    for tensor, name in places.items():
        if tensor not in entries:
            raise UserError(f"{folder / name}: tensor {tensor!r} is missing, although {INDEX} lists it")
    return Tensors(folder, entries)


def _entries(file: Path) -> dict[str, Entry]:
    try:
        check_regular(file, file.parent)
        with safetensors.safe_open(file, framework="np", backend="pread") as opened:
            found = {name: opened.get_slice(name) for name in opened.offset_keys()}
            return {name: Entry(file, name, tuple(one.get_shape()), one.get_dtype()) for name, one in found.items()}
    except (OSError, safetensors.SafetensorError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> UserError:
    if isinstance(error, OSError):
        return UserError(f"{file}: cannot be read: {error.strerror or error}")
    return UserError(f"{file}: cut short, or not a safetensors file: {error}")

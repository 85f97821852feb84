"""The tensors of a Hugging Face folder: one safetensors file, or several with an index."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  By it numpy knows "bfloat16".
import numpy as np
import safetensors

from triarch import schema
from triarch.errors import UserError, brief
from triarch.files import check_regular
from triarch.interchange.orbax_folder import DTYPES
from triarch.schema import FileName, MapOf, Record

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
STORED_TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_INDEX_SCHEMA = Record({"weight_map": MapOf(FileName(), least=1)}, others=True)
_PICKLES = ("*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.ckpt")


@dataclasses.dataclass(frozen=True)
class TensorEntry:
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
class FolderTensors:
    """A folder's tensors by name, and the file that has or lists them; `read` reads one."""

    source: Path
    entries: Mapping[str, TensorEntry]

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


def open_tensors(folder: Path, named: Any = None) -> FolderTensors:
    """Reads the headers of a folder's safetensors files, the very ones that transformers takes.

    These are the file that config.json names, or else model.safetensors, or else those that the index lists.

    Args:
      folder: that holds them.
      named: `transformers_weights` of its config.json, a file or an index; None if it names none.

    Raises:
      UserError: there are none, or only weights of another kind; one is missing, cut short or no safetensors file; the
        index names a tensor that is not there.
    """
    if named is not None and not (_is_name(named) and named.endswith((".safetensors", ".safetensors.index.json"))):
        expected = "expected the name of a safetensors file, or of an index of such files, beside it"
        raise UserError(f"{folder / 'config.json'}: transformers_weights = {named!r}: {expected}")
    names = (WEIGHTS, INDEX) if named is None else (named,)
    source = next((folder / name for name in names if (folder / name).exists()), None)
    if source is not None:
        return _open_shards(source) if source.suffix == ".json" else FolderTensors(source, _entries(source))
    check_kind(folder)
    raise UserError(f"{folder}: holds neither {WEIGHTS} nor {INDEX}" if named is None else f"{folder / named}: missing")


def check_kind(path: Path) -> None:
    """Refuses a file, and a folder of weights that are not safetensors, saying what to do with them.

    Raises:
      UserError: `path` is such a file or folder.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.gguf"))
    gguf = next((file for file in files if file.suffix.lower() == ".gguf" or _begins(file, b"GGUF")), None)
    if gguf is not None:
        call = f"AutoModelForCausalLM.from_pretrained({str(gguf.parent)!r}, gguf_file={gguf.name!r})"
        raise UserError(
            f"{gguf}: GGUF, the format of llama.cpp, is not read: import the Hugging Face folder that it was made "
            f"from, or have transformers make one: {call}.save_pretrained(OUT)"
        )
    if path.is_file():
        raise UserError(f"{path}: a file: name the Hugging Face folder that it is part of")
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    if pickles:
        raise UserError(
            f"{path / pickles[0]}: pickled weights are not read, since loading a pickle runs whatever code it "
            f"holds; have transformers write {WEIGHTS} first: AutoModel...from_pretrained(IN).save_pretrained(OUT)"
        )


def _begins(file: Path, magic: bytes) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(magic)) == magic
    except OSError:
        return False


def _is_name(name: Any) -> bool:
    """Whether something names a file in the same folder."""
    return isinstance(name, str) and Path(name).name == name


def _open_shards(path: Path) -> FolderTensors:
    folder = path.parent
    places = schema.read(path, _INDEX_SCHEMA)["weight_map"]
    names = sorted(set(places.values()))
    entries: dict[str, TensorEntry] = {}
    for name in names:
        if not (folder / name).exists():
            raise UserError(f"{folder / name}: missing, although {path.name} lists it")
        entries |= _entries(folder / name)
    for tensor, name in places.items():
        if tensor not in entries:
            raise UserError(f"{folder / name}: tensor {tensor!r} is missing, although {path.name} lists it")
    return FolderTensors(path, entries)


def _entries(file: Path) -> dict[str, TensorEntry]:
    try:
        check_regular(file, file.parent)
        with safetensors.safe_open(file, framework="np", backend="pread") as opened:
            found = {name: opened.get_slice(name) for name in opened.offset_keys()}
            return {
                name: TensorEntry(file, name, tuple(one.get_shape()), one.get_dtype()) for name, one in found.items()
            }
    except (OSError, safetensors.SafetensorError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> UserError:
    if isinstance(error, OSError):
        return UserError(f"{file}: cannot be read: {error.strerror or error}")
    return UserError(f"{file}: cut short, or not a safetensors file: {brief(error)}")

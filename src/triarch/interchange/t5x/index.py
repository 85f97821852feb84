"""The index of a T5X checkpoint: which array lies where.

What T5X (google-research/t5x at cc342d4, `checkpoints.py`) writes into a folder `checkpoint_STEP`:

- `checkpoint`: msgpack, by `flax.serialization`, of {"version": 3, "optimizer": {"target": parameters, "state": the
  optimizer's state and the step, ...}}, where dicts nest by the modules' names. In version 2, bfloat16 was stored as
  the bits of uint16.
- A leaf is an array in flax's extension types of msgpack (1: an array, 3: a scalar, each msgpack of shape, name of the
  type and bytes; 2: a complex number), or, for parameters that were partitioned, the JSON of a TensorStore spec:
  {"driver": "zarr", "dtype": ..., "kvstore": {"driver": "file" | "gfile" | "gcs", "path": NAME + "/"}, "metadata":
  {"shape": ...}}. NAME is relative to the folder: the path through the modules joined by dots, beginning with "target".
  Old versions have the path beside "kvstore". Arrays of more than 1 GiB that are not partitioned are dicts of chunks.
- NAME is a folder with one zarr (version 2) array, compressed with gzip.

Checkpoints that T5X wrote through Orbax lie in `checkpoint_STEP/state`, have no "optimizer" around the rest, and the
text "PLACEHOLDER://NAME" where there is an array beside the index.

All of it is data from anywhere: read within limits, without pickle, and no path leaves the folder.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  By it numpy knows "bfloat16".
import msgpack
import numpy as np

from triarch.errors import UserError
from triarch.files import check_regular, read_regular
from triarch.schema import MOST_LEVELS, FileName

INDEX = "checkpoint"
# Orbax puts the state beside the state of the data.
ORBAX_FOLDER = "state"
_ORBAX_ALONE = ("_METADATA", "manifest.ocdbt")
VERSIONS = (2, 3)
# Small parameters lie in it, those of a small model all; published indices have a few megabytes.
_MOST_BYTES = 2**29
_MOST_DIMENSIONS = 8
_PLACEHOLDER = "PLACEHOLDER://"
_TENSORFLOW = b"model_checkpoint_path"
_CHUNKED = "__msgpack_chunked_array__"
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_TYPES = (
    *("float16", "bfloat16", "float32", "float64", "bool"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


@dataclasses.dataclass(frozen=True)
class ArrayPlace:
    """An array that lies beside the index.

    Attributes:
      name: of its folder.
      shape: that the index says it has; None if it does not say.
    """

    name: str
    shape: tuple[int, ...] | None


@dataclasses.dataclass(frozen=True)
class Index:
    """What a checkpoint holds.

    Attributes:
      path: the file.
      version: of the format.
      parameters: arrays and places by name, the parts of which are joined by "/".
      left_out: what else the checkpoint has, by its name there.
      step: updates made; None if it does not say.
    """

    path: Path
    version: int
    parameters: Mapping[str, np.ndarray | ArrayPlace]
    left_out: tuple[str, ...]
    step: int | None


def index_path(folder: Path) -> Path | None:
    """Returns the index of a checkpoint's folder; None if the folder holds none."""
    candidates = (folder / INDEX, folder / ORBAX_FOLDER / INDEX)
    return next((path for path in candidates if path.is_file()), None)


def is_without_index(folder: Path) -> bool:
    """Whether a folder holds what Orbax writes by itself: a tree of arrays, mostly in OCDBT, without T5X's index."""
    return index_path(folder) is None and any(
        (home / name).is_file() for home in (folder, folder / ORBAX_FOLDER) for name in _ORBAX_ALONE
    )


def read_index(path: Path) -> Index:
    """Reads an index; no array beside it is looked at.

    Raises:
      UserError: it cannot be read, is no index of T5X's or of a version that is not known, or a path in it leaves the
        folder.
    """
    root = _unpacked(path)
    state: Any = root
    version: Any = VERSIONS[-1]
    if "optimizer" in root:
        state, version = root["optimizer"], root.get("version")
        if version not in VERSIONS:
            raise UserError(f"{path}: version = {version!r}: expected a T5X checkpoint of version 2 or 3")
    target = state.get("target") if isinstance(state, Mapping) else None
    if not isinstance(target, Mapping) or not target:
        raise UserError(f'{path}: not the index of a T5X checkpoint: expected parameters under "optimizer", "target"')
    found: dict[str, np.ndarray | ArrayPlace] = {}
    for name, leaf in _leaves(target, str(path)):
        found[name] = _placed(leaf, f"{path}: {name}")
    left_out = tuple(sorted(name for name, value in state.items() if name != "target" and value not in ({}, None)))
    return Index(path, version, found, left_out, _step(state))


def _unpacked(path: Path) -> Mapping[str, Any]:
    try:
        check_regular(path, path.parent)
        content = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if content.startswith(_TENSORFLOW):
        raise UserError(
            f"{path}: a TensorFlow checkpoint (T5 in Mesh TensorFlow) is not read: convert it with T5X first, "
            "`python -m t5x.scripts.convert_tf_checkpoint`"
        )
    try:
        root = msgpack.unpackb(content, ext_hook=_extension, raw=False)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise UserError(f"{path}: cut short, or not msgpack as T5X writes it: {reason[:100]}") from None
    if not isinstance(root, Mapping):
        raise UserError(f"{path}: not the index of a T5X checkpoint: expected an object, found {type(root).__name__}")
    return root


def _extension(code: int, data: bytes) -> Any:
    """Returns what flax wrote as an extension type of msgpack."""
    if code in (_ARRAY, _SCALAR):
        return _array(data)
    if code == _COMPLEX:
        parts = msgpack.unpackb(data)
        return complex(*parts)
    raise UserError(f"extension type {code} of msgpack: expected one of flax's, 1, 2 or 3")


def _array(data: bytes) -> np.ndarray:
    fields = msgpack.unpackb(data, raw=True)
    if not isinstance(fields, list) or len(fields) != 3:
        raise UserError("an array is not shape, type and values")
    shape, kind, values = fields
    kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else kind
    if kind not in _TYPES:
        raise UserError(f"an array has type {str(kind)[:40]!r}: expected one of {', '.join(_TYPES)}")
    if not _is_shape(shape) or not isinstance(values, bytes):
        raise UserError("an array is not shape, type and values")
    dtype = np.dtype(kind)
    if math.prod(shape) * dtype.itemsize != len(values):
        raise UserError(f"an array of shape {shape} and type {kind} has {len(values):,} bytes")
    return np.frombuffer(values, dtype).reshape(shape)


def _is_shape(value: Any) -> bool:
    is_list = isinstance(value, list | tuple) and len(value) <= _MOST_DIMENSIONS
    return is_list and all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in value)


def _leaves(tree: Mapping[str, Any], where: str, prefix: str = "", level: int = 0) -> Iterator[tuple[str, Any]]:
    """Yields names and leaves of nested dicts."""
    if level > MOST_LEVELS:
        raise UserError(f"{where}: nested more than {MOST_LEVELS} levels deep")
    for key, value in tree.items():
        if not isinstance(key, str):
            raise UserError(f"{where}: a name that is no text: {key!r:.60}")
        name = f"{prefix}{key}"
        is_spec = isinstance(value, Mapping) and ("kvstore" in value or _CHUNKED in value)
        if isinstance(value, Mapping) and not is_spec:
            yield from _leaves(value, where, f"{name}/", level + 1)
        else:
            yield name, value


def _placed(leaf: Any, where: str) -> np.ndarray | ArrayPlace:
    if isinstance(leaf, np.ndarray):
        return leaf
    if isinstance(leaf, str) and leaf.startswith(_PLACEHOLDER):
        return ArrayPlace(_folder_name(leaf.removeprefix(_PLACEHOLDER), where), None)
    if isinstance(leaf, Mapping):
        return _joined(leaf, where) if _CHUNKED in leaf else _of_spec(leaf, where)
    raise UserError(f"{where}: expected an array or where it lies, found {type(leaf).__name__}")


def _of_spec(spec: Mapping[str, Any], where: str) -> ArrayPlace:
    """Returns where a TensorStore spec's array lies: below the folder, on whatever system it was written."""
    store = spec["kvstore"]
    driver = spec.get("driver")
    if driver != "zarr":
        raise UserError(f"{where}: driver = {driver!r:.60}: expected 'zarr'")
    path = store.get("path", spec.get("path")) if isinstance(store, Mapping) else None
    metadata = spec.get("metadata")
    shape = metadata.get("shape") if isinstance(metadata, Mapping) else None
    if shape is not None and not _is_shape(shape):
        raise UserError(f"{where}: metadata.shape = {str(shape)[:60]}: expected the sizes of an array")
    return ArrayPlace(_folder_name(path, where), None if shape is None else tuple(shape))


def _folder_name(path: Any, where: str) -> str:
    name = path.removesuffix("/") if isinstance(path, str) else path
    if not FileName().fits(name):
        raise UserError(f"{where}: path = {path!r:.80}: expected the name of a folder beside {INDEX!r}")
    return name


def _joined(chunks: Mapping[str, Any], where: str) -> np.ndarray:
    """Returns an array that flax took apart because it is large."""
    shape, parts = (_in_order(chunks.get(key)) for key in ("shape", "chunks"))
    if shape is None or not _is_shape(shape) or not parts or not all(isinstance(part, np.ndarray) for part in parts):
        raise UserError(f"{where}: an array in chunks without its shape or its chunks")
    flat = np.concatenate([part.reshape(-1) for part in parts])
    if flat.size != math.prod(shape):
        raise UserError(f"{where}: chunks of {flat.size:,} values for an array of shape {list(shape)}")
    return flat.reshape(shape)


def _in_order(numbered: Any) -> tuple[Any, ...] | None:
    """{"0": x, "1": y} -> (x, y), as flax writes tuples."""
    keys = [str(number) for number in range(len(numbered))] if isinstance(numbered, Mapping) else [None]
    is_numbered = isinstance(numbered, Mapping) and all(key in numbered for key in keys)
    return tuple(numbered[key] for key in keys) if is_numbered else None


def _step(state: Mapping[str, Any]) -> int | None:
    inner = state.get("state")
    value = inner.get("step") if isinstance(inner, Mapping) else state.get("step")
    if isinstance(value, np.ndarray):
        value = value.item() if value.size == 1 else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

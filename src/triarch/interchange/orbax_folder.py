"""The one place that knows how Orbax stores a table of arrays.

`StandardCheckpointer` is used, Orbax's documented class for a tree of arrays; `orbax.checkpoint.v1` is still declared
experimental. On disk: the folder it writes (OCDBT), a tree of nested dicts keyed by the parts of each name.
Tables that do not fit into memory are written and read a part at a time, to and from the same layout: `save_leaves`
by way of a handler of Orbax's for a type of leaf of our own, `StoredLeaf` with the library under Orbax.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath
from jax.sharding import Sharding

from triarch.errors import UserError
from triarch.interchange import literal_names
from triarch.interchange.placement import Placement
from triarch.models.network import Specs, flatten, unflatten
from triarch.runtime.quiet import quiet_orbax

T = TypeVar("T")

literal_names.install()

DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}
_CHUNK_BYTES = 1 << 25


@dataclasses.dataclass(frozen=True)
class Leaf:
    """An array to save that is made part by part.

    Attributes:
      shape: of the whole array.
      dtype: of the whole array.
      by_row: store every row by itself, since each is large and they come one by one: layers of a stacked parameter.
      parts: makes the parts, of which one at a time is held: about so many rows each, one after another.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    by_row: bool
    parts: Callable[[int], Iterator[np.ndarray]]

    # What Orbax asks an array for.
    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


class _LeafHandler(ocp.type_handlers.NumpyHandler):
    """Writes a `Leaf` as numpy arrays are written, a part at a time."""

    async def serialize(
        self, values: Sequence[Leaf], infos: Sequence[Any], args: Sequence[ocp.SaveArgs] | None = None
    ) -> Sequence[Any]:
        assert args is not None
        for leaf, info, arg in zip(values, infos, args, strict=True):
            await info.await_path_creation()
            spec = ocp.type_handlers.get_json_tspec_write(
                info,
                use_ocdbt=info.is_ocdbt_checkpoint,
                global_shape=leaf.shape,
                local_shape=leaf.shape,
                dtype=leaf.dtype,
                process_index=0,
                arg=arg,
            )
            array = await ts.open(ts.Spec(spec), create=True, open=True, context=info.ts_context)
            start = 0
            for part in leaf.parts(_rows(array.chunk_layout.write_chunk)):
                await array[start : start + len(part)].write(part)
                start += len(part)
        return []


def save_leaves(folder: Path, leaves: Mapping[str, Leaf]) -> None:
    """Writes `leaves` to a new `folder`, in the layout of `save`; no more than a part is held at a time."""
    registry = ocp.type_handlers.create_type_handler_registry(
        (jax.Array, ocp.type_handlers.ArrayHandler()), (Leaf, _LeafHandler())
    )
    chunks = {
        name: ocp.SaveArgs(chunk_byte_size=_CHUNK_BYTES, shard_axes=(0,) if leaf.by_row else ())
        for name, leaf in leaves.items()
    }
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
    with quiet_orbax(), ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(unflatten(leaves), save_args=unflatten(chunks)))


@dataclasses.dataclass(frozen=True)
class StoredLeaf:
    """An array of a saved table, read part by part.

    Attributes:
      shape: of the whole array.
      dtype: of the whole array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    _folder: Path
    _array: ts.TensorStore

    def parts(self) -> Iterator[np.ndarray]:
        """Reads it, some rows at a time as they were stored together.

        Raises:
          UserError: a file is missing or damaged.
        """
        rows = _rows(self._array.chunk_layout.read_chunk)
        for start in range(0, self.shape[0], rows):
            part = self._array[start : min(start + rows, self.shape[0])]
            yield _explained(self._folder, functools.partial(_read, part))


def open_leaf(folder: Path, name: str) -> StoredLeaf:
    """Opens one array of a table that `save` or `save_leaves` wrote, or a run's checkpoint.

    Raises:
      UserError: a file is missing or damaged.
    """
    base = {"driver": "file", "path": f"{folder.absolute()}/"}
    kvstore = {"driver": "ocdbt", "base": base, "path": f"{name.replace('/', '.')}/"}
    spec = {"driver": "zarr", "kvstore": kvstore}
    array = _explained(folder, lambda: ts.open(spec, read=True).result())
    return StoredLeaf(tuple(array.shape), array.dtype.numpy_dtype, folder, array)


def save(folder: Path, tensors: Mapping[str, jax.Array]) -> None:
    """Writes `tensors` to a new `folder` and returns when they are on disk."""
    with quiet_orbax(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), unflatten(tensors))
        checkpointer.wait_until_finished()


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every array in `folder`, by name.

    Raises:
      UserError: the folder is missing, or Orbax cannot read it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: the folder with the parameters is missing")

    def read() -> dict[str, tuple[int, ...]]:
        # The handler, not the checkpointer, which expects the files of a whole step around a run's parameters.
        handler = ocp.StandardCheckpointHandler()
        try:
            tree = handler.metadata(epath.Path(folder.absolute())).tree
        finally:
            handler.close()
        return {name: tuple(found.shape) for name, found in flatten(tree).items()}

    return _explained(folder, read)


def load(
    folder: Path, tensors: Mapping[str, jax.ShapeDtypeStruct], shardings: Mapping[str, Sharding]
) -> dict[str, jax.Array]:
    """Reads arrays, each to its sharding, whatever mesh wrote them.

    Args:
      folder: written by `save`.
      tensors: shape and type of every array, by name.
      shardings: where each goes, by name.

    Raises:
      UserError: a file is missing or damaged.
    """
    targets = {
        name: jax.ShapeDtypeStruct(spec.shape, spec.dtype, sharding=shardings[name]) for name, spec in tensors.items()
    }

    def read() -> dict[str, jax.Array]:
        return flatten(restore(folder, unflatten(targets)))

    return _explained(folder, read)


def load_parameters(folder: Path, known: Specs, placement: Placement) -> dict[str, jax.Array]:
    """Returns the parameters of `known`, each where it belongs; raises as `load`."""
    return load(folder, {name: spec.struct for name, spec in known.items()}, placement.parameters(known))


def restore(folder: Path, target: Any) -> Any:
    """Returns arrays as `target`, a tree of shapes, types and shardings, has them; what else is stored stays unread."""
    wanted = ocp.args.PyTreeRestore(target, ocp.checkpoint_utils.construct_restore_args(target), partial_restore=True)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(folder.absolute(), args=wanted)


def _read(part: Any) -> np.ndarray:
    return part.read().result()


def _explained(folder: Path, read: Callable[[], T]) -> T:
    """Returns `read()`, or raises one clear line."""
    try:
        return read()
    except Exception as error:
        reason = str(error).split(" See full TensorStore details")[0].split("\n")[0] or type(error).__name__
        raise UserError(f"{folder}: a file is missing or damaged: {reason[:200]}") from error


def _rows(chunk: Any) -> int:
    """Returns how many rows are stored together."""
    return int(chunk.shape[0])

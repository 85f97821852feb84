"""The one place that knows how Orbax stores a table of arrays.

`StandardCheckpointer` is used, Orbax's documented class for a tree of arrays; `orbax.checkpoint.v1` is still declared
experimental. On disk: the folder it writes (OCDBT), a tree of nested dicts keyed by the parts of each name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Sharding

from triarch.errors import UserError
from triarch.interchange.parameters import nest, unnest

T = TypeVar("T")


def save(folder: Path, tensors: Mapping[str, jax.Array]) -> None:
    """Writes `tensors` to a new `folder` and returns when they are on disk."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), nest(tensors))
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
        return {name: tuple(found.shape) for name, found in unnest(tree).items()}

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
        with ocp.StandardCheckpointer() as checkpointer:
            return unnest(checkpointer.restore(folder.absolute(), nest(targets)))

    return _explained(folder, read)


def _explained(folder: Path, read: Callable[[], T]) -> T:
    """Returns `read()`, or raises one clear line."""
    try:
        return read()
    except Exception as error:
        reason = str(error).split(" See full TensorStore details")[0].split("\n")[0] or type(error).__name__
        raise UserError(f"{folder}: a file is missing or damaged: {reason[:200]}") from error

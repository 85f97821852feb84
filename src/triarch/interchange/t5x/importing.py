"""From a T5X checkpoint to an export of ours, tensor by tensor; the optimizer's state is left out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from triarch.errors import UserError
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.importing import CONFIG, Advance, make_leaves, network_bytes
from triarch.interchange.huggingface.table import Link, links
from triarch.interchange.manifest import ExportManifest, Origin
from triarch.interchange.streamed import write_leaves
from triarch.interchange.t5x import network
from triarch.interchange.t5x.arrays import open_arrays
from triarch.interchange.t5x.index import Index, index_path, is_without_index, read_index
from triarch.interchange.t5x.layout import T5xTensors, by_layer, with_shared_biases
from triarch.interchange.t5x.network import Said
from triarch.models import ModelConfig

_STEP = re.compile("checkpoint_([0-9]{1,18})")


@dataclasses.dataclass(frozen=True)
class OpenedCheckpoint:
    """A T5X checkpoint that was found to be whole.

    Attributes:
      folder: it.
      family: the class of Hugging Face's with the same network.
      fields: the config.json of that class.
      config: the network.
      index: what else the checkpoint says.
      tensors: parameters by layer.
      links: which of them is which parameter of ours.
      notes: what was assumed, a line each.
    """

    folder: Path
    family: Family
    fields: Mapping[str, Any]
    config: ModelConfig
    index: Index
    tensors: T5xTensors
    links: Sequence[Link]
    notes: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of all parameters."""
        return network_bytes(self)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What of the checkpoint is no part of the network."""
        return self.index.left_out


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint of T5X's or Orbax's, and is no Hugging Face folder."""
    return (index_path(folder) is not None or is_without_index(folder)) and not (folder / CONFIG).is_file()


def newest_within(folder: Path) -> Path | None:
    """Returns the newest of the checkpoints in a run's folder of T5X's; None if it holds none."""
    if not folder.is_dir():
        return None
    steps = {int(found[1]): path for path in folder.iterdir() if (found := _STEP.fullmatch(path.name))}
    return steps[max(steps)] if steps else None


def open_checkpoint(folder: Path, said: Said | None = None) -> OpenedCheckpoint:
    """Reads a checkpoint's index and what its arrays say of their shapes, and makes sure that they are a T5's.

    Args:
      folder: `checkpoint_STEP`.
      said: what a gin file says of the network; None if there is none.

    Raises:
      UserError: the index is not T5X's; a parameter is missing, is one too many, misshapen (named, with both shapes) or
        incomplete; a path or a link leaves the folder; the gin file says otherwise or what has no equivalent here.
    """
    path = index_path(folder)
    if is_without_index(folder):
        raise UserError(
            f"{folder}: a checkpoint of Orbax's own form (OCDBT), without T5X's index 'checkpoint', is not read: "
            "restore it in T5X and save it with SaveCheckpointConfig.checkpointer_cls = @checkpoints.Checkpointer"
        )
    if path is None:
        raise UserError(f"{folder}: not a T5X checkpoint: it holds no index 'checkpoint'")
    index = read_index(path)
    tensors = with_shared_biases(by_layer(open_arrays(index), path))
    fields, notes = network.fields_of(tensors, said)
    family = network.family_of(tensors)
    config = network.network_of(family, fields, str(path))
    found = links(config, network.rules(config), "a T5X checkpoint")
    _check(tensors, found, config.num_heads)
    return OpenedCheckpoint(folder, family, fields, config, index, tensors, found, notes)


def write_import(
    opened: OpenedCheckpoint,
    output: Path,
    *,
    vocabulary: Mapping[str, Any] | None = None,
    fill: Callable[[Path], None] = lambda making: None,
    overwrite: bool = False,
    advance: Advance = lambda num_bytes: None,
) -> ExportManifest:
    """Writes an export with the parameters of a T5X checkpoint, in the types that they have there.

    Args:
      opened: the checkpoint.
      output: folder to make; it appears only when it is whole.
      vocabulary: of its tokenizer, as in a token store's manifest; None if unknown.
      fill: puts further files into the folder that is being made.
      overwrite: replace an export that is there.
      advance: told of the bytes of each parameter that was converted.

    Raises:
      UserError: `output` exists or cannot be written, or a parameter cannot be read.
    """
    leaves, _ = make_leaves(opened, advance)
    source = {
        "t5x": {"version": opened.index.version, "left_out": list(opened.left_out)},
        "huggingface": opened.family.class_name,
        "folder": opened.folder.absolute().name,
        "config": opened.fields,
        "generation_config": None,
    }
    origin = Origin(vocabulary=vocabulary, step=opened.index.step, source=source)
    return write_leaves(output, opened.config, origin, leaves, fill, overwrite)


def _check(tensors: T5xTensors, found: Sequence[Link], heads: int) -> None:
    """Makes sure that the parameters are those of the network, of the right shapes."""
    entries, expected = tensors.entries, {link.theirs: link.shape for link in found}
    for name, shape in expected.items():
        if name not in entries:
            raise UserError(f"{tensors.source}: {name!r} {list(shape)} is missing")
        entry = entries[name]
        if entry.shape != shape or entry.heads not in (None, heads):
            stored = f"{entry.stored_name!r} has shape {list(entry.array.shape)}"
            raise UserError(f"{entry.file}: {stored}, expected {list(shape)} of {name!r}, {heads} heads")
        tensors.dtype(name)
    for name, entry in entries.items():
        if name not in expected:
            stored_shape = list(entry.array.shape)
            raise UserError(f"{entry.file}: {entry.stored_name!r} {stored_shape} has no place in a T5 of these shapes")

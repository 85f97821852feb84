"""The two ways in which T5X's T5 lays its parameters out, and both as one: a matrix a layer.

Facts (google-research/t5x at cc342d4, `examples/t5` and `examples/scalable_t5`):

- "minimal": layer I's parameters are `SIDE/layers_I/...`; `attention/{query,key,value}/kernel` [d_model, heads *
  head_dim] and `out/kernel` [heads * head_dim, d_model] (`attention` in the encoder, `self_attention` and
  `encoder_decoder_attention` in the decoder); `mlp/wi/kernel`, or `wi_0` (the one with the activation) and `wi_1`
  [d_model, d_ff], and `wo/kernel` [d_ff, d_model]; `pre_*_layer_norm/scale`. Beside the layers stand
  `SIDE/relpos_bias/rel_embedding` [heads, buckets], `SIDE/SIDE_norm/scale`, `token_embedder/embedding` [vocab,
  d_model] and, if not tied to it, `decoder/logits_dense/kernel` [d_model, vocab].
- "scanned" (`scan_layers`): all layers' parameters are `SIDE/SIDE/...`, with an axis of layers in second place
  (`param_scan_axis` = 1): kernels of attention are [d_model, layers, heads, head_dim] and [heads, layers, head_dim,
  d_model], scales [d_model, layers]. Relative biases are one of the layer's parameters there: `SIDE/SIDE/relpos_bias/
  rel_embedding` [heads, layers, buckets]. Not scanned, the same network has `SIDE/layers_I/relpos_bias/rel_embedding`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from triarch.errors import UserError
from triarch.interchange.orbax_folder import DTYPES
from triarch.interchange.t5x.arrays import Array
from triarch.models.shape import MOST_LAYERS

SIDES = ("encoder", "decoder")
BIASES = "relpos_bias/rel_embedding"
_SCALE = "pre_mlp_layer_norm/scale"
_ATTENTION = re.compile(r"/(self_|encoder_decoder_)?attention/(query|key|value|out)/kernel$")


@dataclasses.dataclass(frozen=True)
class LayoutEntry:
    """A parameter as the minimal layout has it.

    Attributes:
      array: that holds it.
      stored_name: of the array in the checkpoint.
      shape: with the axes of heads and head_dim as one.
      heads: size of the axis of heads; None where it is not by itself.
      axis: of the array's layers; None where it has none.
      layer: which of them.
    """

    array: Array
    stored_name: str
    shape: tuple[int, ...]
    heads: int | None = None
    axis: int | None = None
    layer: int = 0

    @property
    def file(self) -> Path:
        """The file or folder that holds it."""
        return self.array.file


@dataclasses.dataclass(frozen=True)
class T5xTensors:
    """A checkpoint's parameters by their names in the minimal layout, and its index; `read` reads one."""

    source: Path
    entries: Mapping[str, LayoutEntry]

    def dtype(self, name: str) -> np.dtype:
        """Returns the type of a parameter.

        Raises:
          UserError: it is not one that parameters come in.
        """
        entry = self.entries[name]
        if entry.array.dtype not in DTYPES:
            expected = ", ".join(DTYPES)
            raise UserError(f"{entry.file}: {name!r} has type {entry.array.dtype}, expected one of {expected}")
        return DTYPES[entry.array.dtype]

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """Reads a parameter, or some of its rows.

        Raises:
          UserError: a file of it is damaged.
        """
        entry = self.entries[name]
        rank = len(entry.array.shape)
        if rows is not None and entry.shape == entry.array.shape:
            # TensorStore takes no slice beyond the end.
            within = slice(rows.start, min(rows.stop, entry.shape[0]))
            return entry.array.read((within, *[slice(None)] * (rank - 1)))
        index = tuple(entry.layer if axis == entry.axis else slice(None) for axis in range(rank))
        whole = entry.array.read(index).reshape(entry.shape)
        return whole if rows is None else whole[rows]


def by_layer(arrays: Mapping[str, Array], source: Path) -> T5xTensors:
    """Returns the parameters as the minimal layout has them, in whichever layout they are stored.

    Raises:
      UserError: an array has not as many layers as the others.
    """
    entries: dict[str, LayoutEntry] = {}
    scanned = {side: _layer_axis(arrays, side) for side in SIDES}
    for name, array in arrays.items():
        side, _, rest = name.partition("/")
        if side not in SIDES or not rest.startswith(f"{side}/"):
            entries[name] = LayoutEntry(array, name, *_flat(name, array.shape))
            continue
        axis, num_layers = scanned[side]
        if len(array.shape) <= axis or array.shape[axis] != num_layers:
            shapes = f"has shape {list(array.shape)}, expected {num_layers} layers along axis {axis}"
            raise UserError(f"{array.file}: {name!r} {shapes}, as {side}/{side}/{_SCALE} has them")
        for layer in range(num_layers):
            one = f"{side}/layers_{layer}/{rest.removeprefix(f'{side}/')}"
            flat = _flat(one, (*array.shape[:axis], *array.shape[axis + 1 :]))
            if one in arrays:
                raise UserError(f"{array.file}: {name!r} holds layer {layer}, which is also there as {one!r}")
            entries[one] = LayoutEntry(array, name, *flat, axis, layer)
    return T5xTensors(source, entries)


def with_shared_biases(tensors: T5xTensors) -> T5xTensors:
    """Returns the parameters, with one table of relative biases a side where all its layers have the same."""
    entries = dict(tensors.entries)
    for side in SIDES:
        names = [name for name in entries if name.startswith(f"{side}/layers_") and name.endswith(f"/{BIASES}")]
        if not names or len({entries[name].shape for name in names}) > 1:
            return tensors
        first = tensors.read(names[0])
        if not all(np.array_equal(first, tensors.read(name)) for name in names):
            return tensors
        entries[f"{side}/{BIASES}"] = entries[names[0]]
        entries = {name: entry for name, entry in entries.items() if name not in names}
    return dataclasses.replace(tensors, entries=entries)


def _layer_axis(arrays: Mapping[str, Array], side: str) -> tuple[int, int]:
    """Returns the axis of a scanned side's layers and how many there are; T5X's own axis is the second."""
    scale, embedding = arrays.get(f"{side}/{side}/{_SCALE}"), arrays.get("token_embedder/embedding")
    if scale is None or len(scale.shape) != 2:
        return 1, 0
    width = embedding.shape[-1] if embedding is not None and embedding.shape else None
    axis = 0 if scale.shape[1] == width and scale.shape[0] != width else 1
    if scale.shape[axis] > MOST_LAYERS:
        raise UserError(f"{scale.file}: {scale.shape[axis]:,} layers, expected at most {MOST_LAYERS:,}")
    return axis, scale.shape[axis]


def _flat(name: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int | None]:
    """Returns the shape with heads and head_dim side by side, and the number of heads where it had them apart."""
    found = _ATTENTION.search(name)
    if found is None or len(shape) != 3:
        return shape, None
    first, second, third = shape
    return ((first * second, third), first) if found[2] == "out" else ((first, second * third), second)

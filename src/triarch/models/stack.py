"""Layers one after another: the few that differ first, then a repeated group that can be scanned."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from triarch.models.block import Block, Surroundings, relative_bias_table
from triarch.models.cache import BlockCache, StackCache
from triarch.models.config import LayerSpec, ModelConfig, Side
from triarch.models.execution import Constrain, Execution
from triarch.models.norms import Norm
from triarch.models.scores import RelativeBias


def repeating(specs: Sequence[LayerSpec]) -> tuple[int, int]:
    """Finds the shortest group of layers that, after a few first ones, repeats to the end.

    Returns:
      (number of first layers, length of the group); a group of 0 means that nothing repeats.
    """
    # The shortest of them first: of a thousand layers there are half a million groups.
    for end in range(1, len(specs) + 1):
        for first in range(end):
            period, layers = end - first, len(specs) - first
            divides = layers >= 2 * period and layers % period == 0
            if divides and all(specs[i] == specs[i + period] for i in range(first, len(specs) - period)):
                return first, period
    return len(specs), 0


class Stack(nnx.Module):
    """The layers of an encoder or a decoder, and the norm after the last of them.

    Parameters of the repeated group lie stacked along a leading "layers" axis under `scanned`, whether the layers
    are scanned or unrolled when they run, so that a checkpoint does not depend on it.
    """

    def __init__(
        self,
        config: ModelConfig,
        execution: Execution,
        side: Side,
        rngs: nnx.Rngs,
        constrain: Constrain,
    ):
        self.execution = execution
        self.constrain = constrain
        specs = config.layer_specs(side)
        num_first, period = repeating(specs)
        self.num_repeats = (len(specs) - num_first) // period if period else 0

        def make(spec: LayerSpec, layer_rngs: nnx.Rngs) -> Block:
            return Block(config, execution, spec, side, layer_rngs, constrain)

        self.first = nnx.List([make(spec, rngs) for spec in specs[:num_first]])
        own = config.of_side(side)
        group = specs[num_first : num_first + period]
        self.scanned = nnx.List([_stacked(lambda r, s=spec: make(s, r), self.num_repeats, rngs) for spec in group])
        self.relative_bias = None if config.relative_bias_per_layer else relative_bias_table(own, rngs)
        self.max_distance = config.relative_max_distance
        self.final_norm = Norm(own) if config.final_norm else None

    def __call__(
        self, x: Float[Array, "batch length d_model"], around: Surroundings
    ) -> Float[Array, "batch length d_model"]:
        """Runs every layer and the final norm."""
        return self._run(x, around, None)[0]

    def cached(
        self, x: Float[Array, "batch length d_model"], around: Surroundings, cache: StackCache | None
    ) -> tuple[Float[Array, "batch length d_model"], StackCache]:
        """The same where `around` has an update: also returns the cache, which for a prefill begins as None."""
        return self._run(x, around, cache)

    def unroll(self) -> None:
        """Takes repeated layers apart into `first`, each with parameters of its own.

        A decoding step spends its time reading parameters: on a CPU a slice of stacked ones is read twice, once to copy
        it.
        """
        if self.num_repeats:
            graph, stacked = nnx.split(self.scanned)
            for layers in _unstacked(stacked, self.num_repeats):
                self.first.extend(nnx.merge(graph, layers))
        self.scanned, self.num_repeats = nnx.List([]), 0

    def _run(self, x: jax.Array, around: Surroundings, cache: StackCache | None) -> tuple[jax.Array, StackCache | None]:
        if self.relative_bias is not None:
            bias = RelativeBias(self.relative_bias[...], not around.mask.causal, self.max_distance)
            around = dataclasses.replace(around, bias=bias)
        first, scanned = ([None] * len(self.first), None) if cache is None else (cache.first, cache.scanned)
        kept = []
        for block, held in zip(self.first, first, strict=True):
            x, held = self._layer(nnx.split(block), x, around, held)
            kept.append(held)
        if self.num_repeats:
            graph, stacked = nnx.split(self.scanned)
            x, scanned = self._repeat(graph, self._narrowed(stacked), x, around, scanned)
        x = x if self.final_norm is None else self.final_norm(x)
        return x, None if around.update is None else StackCache(tuple(kept), scanned or ())

    def _layer(
        self, split_block: tuple, x: jax.Array, around: Surroundings, cache: BlockCache | None
    ) -> tuple[jax.Array, BlockCache | None]:
        graph, state = split_block
        run = self.execution.rematerialise(
            lambda state, x, cache: nnx.merge(graph, self._gathered(state))(x, around, cache)
        )
        return run(state, x, cache)

    def _gathered(self, state: nnx.State) -> nnx.State:
        """Returns a layer's parameters with its matrices brought together from the devices that share them out.

        A feed-forward layer in parts brings its own together, part by part.
        """
        if self.execution.gather == "compiler":
            return state
        in_parts = self.execution.feed_forward_parts > 1

        def gathered(variable: nnx.Variable) -> nnx.Variable:
            value = variable[...]
            # Sliced out of a stack, a parameter has lost its first axis but not its name.
            axes = variable.get_metadata("logical_axes")[-value.ndim :]
            return variable.replace(self.constrain.gathered(value, axes, self.execution.dtype))

        leaves = nnx.to_flat_state(state)
        stays = [v[...].ndim == 1 or (in_parts and "mlp" in p) for p, v in leaves]
        return nnx.from_flat_state({p: v if stay else gathered(v) for (p, v), stay in zip(leaves, stays, strict=True)})

    def _narrowed(self, stacked: nnx.State) -> nnx.State:
        """Returns stacked parameters with the matrices that are gathered by layer in the type of activations.

        The loop over layers then stacks gradients in the type in which they are summed, half the memory of float32.
        """
        if self.execution.gather == "compiler":
            return stacked
        return jax.tree.map(lambda x: x.astype(self.execution.dtype) if x.ndim > 2 else x, stacked)

    def _repeat(
        self,
        graph: nnx.GraphDef,
        stacked: nnx.State,
        x: jax.Array,
        around: Surroundings,
        caches: tuple[BlockCache, ...] | None,
    ) -> tuple[jax.Array, tuple[BlockCache | None, ...]]:
        def group(x: jax.Array, layers: tuple) -> tuple[jax.Array, tuple[BlockCache | None, ...]]:
            state, caches = layers
            blocks = nnx.merge(graph, state)
            kept = []
            for block, held in zip(blocks, caches or [None] * len(blocks), strict=True):
                x, held = self._layer(nnx.split(block), x, around, held)
                kept.append(held)
            return x, tuple(kept)

        if self.execution.scan_layers:
            return jax.lax.scan(group, x, (stacked, caches))
        kept = []
        for layers in _unstacked((stacked, caches), self.num_repeats):
            x, held = group(x, layers)
            kept.append(held)
        return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept)


def _unstacked(stacked: Any, repeats: int) -> list[Any]:
    """Takes trees of leaves [layers, ...] apart; the gradient is one stacking, where that of indexing adds up zeros."""
    leaves, structure = jax.tree.flatten(stacked)
    parts = [jnp.unstack(leaf) for leaf in leaves]
    return [structure.unflatten(part[index] for part in parts) for index in range(repeats)]


def _stacked(make, repeats: int, rngs: nnx.Rngs) -> Block:
    """Makes `repeats` blocks as one whose parameters have a leading "layers" axis."""
    keys = jax.random.split(rngs.params(), repeats)
    block = nnx.vmap(lambda key: make(nnx.Rngs(params=key)))(keys)
    for _, variable in nnx.iter_graph(block):
        if isinstance(variable, nnx.Param):
            variable.set_metadata("logical_axes", ("layers", *variable.get_metadata("logical_axes")))
    return block

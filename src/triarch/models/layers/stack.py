"""Layers one after another: the few that differ first, then a repeated group that can be scanned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from triarch.models import parameters
from triarch.models.adapters.kernel import AdaptedKernel
from triarch.models.attention.attention_parts import num_relative_biases
from triarch.models.attention.cache import BlockCache, StackCache
from triarch.models.attention.relative_bias import RelativeBias, relative_bias_table
from triarch.models.config import ModelConfig
from triarch.models.execution import Execution
from triarch.models.layers.block import Block, Step, extend, forward, prefill
from triarch.models.layers.context import StackContext
from triarch.models.layers.dropout import dropped
from triarch.models.layers.layer import LayerSpec
from triarch.models.layers.norms import Norm
from triarch.models.layers.parts import Site
from triarch.models.placing import Constrain
from triarch.models.shape import Side


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
        own = config.of_side(side)
        site = Site(own, side, execution, constrain, rngs)
        specs = config.layer_specs(side)
        num_first, period = repeating(specs)
        self.num_repeats = (len(specs) - num_first) // period if period else 0
        firsts = (dataclasses.replace(site, layer=layer) for layer in range(num_first))
        self.first = nnx.List([spec.build(one) for spec, one in zip(specs[:num_first], firsts, strict=True)])
        group = specs[num_first : num_first + period]
        layers = [range(first, len(specs), period) for first in range(num_first, num_first + period)]
        self.scanned = nnx.List([_stacked(spec, numbers, site) for spec, numbers in zip(group, layers, strict=True)])
        has_biases = num_relative_biases(own, per_layer=False) > 0
        self.relative_bias = relative_bias_table(own, rngs) if has_biases else None
        self.max_distance = config.relative_max_distance
        self.final_norm = Norm(own) if config.final_norm else None

    def __call__(
        self, x: Float[Array, "batch length d_model"], context: StackContext
    ) -> Float[Array, "batch length d_model"]:
        """Runs every layer and the final norm."""
        return self._run(x, context, forward, self._nothing_kept())[0]

    def prefill(
        self, x: Float[Array, "batch length d_model"], context: StackContext, capacity: int
    ) -> tuple[Float[Array, "batch length d_model"], StackCache]:
        """The same for prompts; also returns what layers keep of them, with room for `capacity` columns."""
        return self._run(x, context, prefill(capacity), self._nothing_kept())

    def extend(
        self, x: Float[Array, "batch count d_model"], cache: StackCache, context: StackContext
    ) -> tuple[Float[Array, "batch count d_model"], StackCache]:
        """The same for tokens that follow what is kept."""
        return self._run(x, context, extend, cache)

    def reorder(self, cache: StackCache, rows: Int[Array, " batch"]) -> StackCache:
        """Returns what is kept after rows that continue the same prompt have changed places."""
        first = tuple(block.reorder(kept, rows) for block, kept in zip(self.first, cache.first, strict=True))
        scanned = tuple(
            jax.vmap(block.reorder, in_axes=(0, None))(kept, rows)
            for block, kept in zip(self.scanned, cache.scanned, strict=True)
        )
        return StackCache(first, scanned)

    def kept_axes(self, cache: StackCache) -> list[tuple[str | None, ...]]:
        """Returns the logical names of the axes of each leaf that is kept, in the order of `jax.tree.leaves`."""
        axes = [axes for block, kept in zip(self.first, cache.first, strict=True) for axes in block.kept_axes(kept)]
        for block, kept in zip(self.scanned, cache.scanned, strict=True):
            one = jax.eval_shape(lambda kept: jax.tree.map(lambda leaf: leaf[0], kept), kept)
            axes += [(None, *names) for names in block.kept_axes(one)]
        return axes

    def unroll(self) -> None:
        """Takes repeated layers apart into `first`, each with parameters of its own.

        A decoding step spends its time reading parameters: on a CPU a slice of stacked ones is read twice, once to copy
        it.
        """
        if self.num_repeats:
            graph: Any
            graph, stacked = nnx.split(self.scanned)
            for layers in _unstacked(stacked, self.num_repeats):
                self.first.extend(nnx.merge(cast(Any, graph), layers))
        self.scanned, self.num_repeats = nnx.List([]), 0

    def _nothing_kept(self) -> StackCache:
        return StackCache((BlockCache(),) * len(self.first), (BlockCache(),) * len(self.scanned))

    def _run(self, x: jax.Array, context: StackContext, step: Step, cache: StackCache) -> tuple[jax.Array, StackCache]:
        if self.relative_bias is not None:
            bias = RelativeBias(self.relative_bias[...], not context.mask.causal, self.max_distance)
            context = dataclasses.replace(context, bias=bias)

        def layer(block: Block, x: jax.Array, kept: BlockCache, number: int | Int[Array, ""] | None) -> tuple:
            graph, state = nnx.split(block)
            own = context.in_layer(number)

            def run(state: nnx.State, x: jax.Array, kept: BlockCache) -> tuple:
                losses: dict[str, jax.Array] | None = None if own.losses is None else {}
                within = dataclasses.replace(own, losses=losses)
                x, kept = nnx.merge(graph, _keyed(self._gathered(state), own))(x, within, step, kept)
                return x, (kept, losses)

            return self.execution.rematerialise(run)(state, x, kept)

        x, first = _through(layer, self.first, x, cache.first, 0)
        scanned: tuple = ()
        if self.num_repeats:
            graph: Any
            graph, stacked = nnx.split(self.scanned)

            def group(x: jax.Array, layers: tuple) -> tuple:
                state, kept, begin = layers
                return _through(layer, nnx.merge(graph, state), x, kept, begin)

            # The number of each group's first layer, where it matters.
            begins = None
            if context.dropout is not None:
                begins = len(self.first) + len(self.scanned) * jnp.arange(self.num_repeats)
            x, scanned = self._repeat(group, x, (self._narrowed(stacked), cache.scanned, begins))
        if context.losses is not None:
            _add_means([losses for _, losses in (*first, *scanned)], context.losses)
        x = x if self.final_norm is None else self.final_norm(x)
        kept = StackCache(tuple(kept for kept, _ in first), tuple(kept for kept, _ in scanned))
        return dropped(x, context.dropout, "final"), kept

    def _repeat(self, group: Callable, x: jax.Array, layers: tuple) -> tuple[jax.Array, tuple]:
        """Runs a group of layers as often as it occurs, on parameters and caches that are stacked."""
        if self.execution.scan_layers:
            return jax.lax.scan(group, x, layers)
        kept = []
        for one in _unstacked(layers, self.num_repeats):
            x, held = group(x, one)
            kept.append(held)
        return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept)

    def _gathered(self, state: nnx.State) -> nnx.State:
        """Returns a layer's parameters with its matrices brought together from the devices that share them out.

        A feed-forward layer in parts brings its own together, part by part.
        """
        if self.execution.gather != "layer":
            return state
        in_parts = self.execution.feed_forward_parts > 1

        def gathered(variable: nnx.Variable) -> nnx.Variable:
            axes = parameters.axes_of(variable)
            if parameters.kind_of(variable) == "vector" or (in_parts and "mlp" in axes):
                return variable
            return _of_arrays(variable, lambda x: self.constrain.gathered(x, axes, self.execution.dtype))

        return _mapped(gathered, state)

    def _narrowed(self, stacked: nnx.State) -> nnx.State:
        """Returns stacked parameters with the matrices that are gathered by layer in the type of activations.

        The loop over layers then stacks gradients in the type in which they are summed, half the memory of float32.
        """
        if self.execution.gather != "layer":
            return stacked

        def narrowed(variable: nnx.Variable) -> nnx.Variable:
            if parameters.kind_of(variable) == "vector":
                return variable
            return _of_arrays(variable, lambda x: x.astype(self.execution.dtype))

        return _mapped(narrowed, stacked)


def _through(
    layer: Callable,
    blocks: Iterable[Block],
    x: jax.Array,
    kept: tuple[BlockCache, ...],
    begin: int | Int[Array, ""] | None,
) -> tuple[jax.Array, tuple]:
    """Runs layers one after another, of which the first has the number `begin`.

    Returns:
      What comes of it; and of each layer what it keeps, and its losses.
    """
    found = []
    for index, (block, cache) in enumerate(zip(blocks, kept, strict=True)):
        x, one = layer(block, x, cache, None if begin is None else begin + index)
        found.append(one)
    return x, tuple(found)


def _add_means(layers: Sequence[dict[str, jax.Array]], losses: dict[str, jax.Array]) -> None:
    """Adds to `losses`, by name, the mean over those layers that have one; of repeated layers they are stacked."""
    for name in sorted({name for found in layers for name in found}):
        values = jnp.concatenate([found[name].reshape(-1) for found in layers if name in found])
        losses[name] = losses.get(name, 0.0) + jnp.mean(values)


def _of_arrays(variable: nnx.Variable, function: Callable[[jax.Array], jax.Array]) -> nnx.Variable:
    """Returns a parameter with `function` of its array; of an adapted kernel, of the base."""
    value = variable[...]
    return variable.replace(value.with_base(function) if isinstance(value, AdaptedKernel) else function(value))


def _keyed(state: nnx.State, context: StackContext) -> nnx.State:
    """Returns a layer's parameters with the keys of the dropout before its adapters, where there is one."""
    keys = context.dropout
    if keys is None or not keys.rates.adapter:
        return state

    def keyed(variable: nnx.Variable) -> nnx.Variable:
        value = variable[...]
        return variable.replace(value.with_keys(keys)) if isinstance(value, AdaptedKernel) else variable

    return _mapped(keyed, state)


def _mapped(function: Callable[[nnx.Variable], nnx.Variable], state: nnx.State) -> nnx.State:
    return nnx.from_flat_state([(path, function(variable)) for path, variable in nnx.to_flat_state(state)])


def _unstacked(stacked: Any, repeats: int) -> list[Any]:
    """Takes trees of leaves [layers, ...] apart; the gradient is one stacking, where that of indexing adds up zeros."""
    structure: Any
    leaves, structure = jax.tree.flatten(stacked)
    parts = [jnp.unstack(leaf) for leaf in leaves]
    return [structure.unflatten(part[index] for part in parts) for index in range(repeats)]


def _stacked(spec: LayerSpec, layers: range, site: Site) -> Block:
    """Makes the blocks of layers of these numbers as one whose parameters have a leading "layers" axis."""
    keys = jax.random.split(site.rngs.params(), len(layers))

    def build(key: jax.Array, layer: jax.Array) -> Block:
        return spec.build(dataclasses.replace(site, rngs=nnx.Rngs(params=key), layer=layer))

    block = nnx.vmap(build)(keys, jnp.array(layers))
    for _, variable in nnx.iter_graph(block):
        if isinstance(variable, nnx.Param):
            parameters.stack(variable)
    return block

"""Tokens to the experts that a router chose for them, and back: all of them, or as many as experts have room for.

On a mesh each device routes the tokens that it holds. Along the axis of experts, all tokens of a group of devices come
together at each of them for the experts that live there (no limit), or are sent to where their expert lives (a limit).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from triarch.models.adapters.kernel import AdaptedKernel, multiplied
from triarch.models.layers.grouped_product import grouped_product
from triarch.models.placing import Constrain

Activation = Callable[[jax.Array], jax.Array]


class ExpertKernels(NamedTuple):
    """The matrices of experts, adapted or not.

    Attributes:
      up: [experts, d_model, d_ff].
      gate: likewise; None where experts are not gated.
      down: [experts, d_ff, d_model].
    """

    up: Any
    gate: Any
    down: Any

    def applied(
        self, product: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, activation: Activation
    ) -> Any:
        """Returns what experts make of `x`, which `product` multiplies by the kernels of each."""

        def named(x: jax.Array, kernel: Any) -> jax.Array:
            return checkpoint_name(multiplied(product, x, kernel), "projection")

        inner = named(x, self.up)
        inner = activation(inner) if self.gate is None else activation(named(x, self.gate)) * inner
        return named(inner, self.down)


def dropless(
    x: Float[Array, "batch length d_model"],
    weights: Float[Array, "batch length chosen"],
    chosen: Int[Array, "batch length chosen"],
    kernels: ExpertKernels,
    activation: Activation,
    constrain: Constrain,
) -> Float[Array, "batch length d_model"]:
    """Returns the weighted sums of what the chosen experts make of each token, by products of groups of tokens."""
    num_experts = kernels.up.shape[0]
    if constrain.mesh is None or any(isinstance(kernel, AdaptedKernel) for kernel in kernels):
        return _sorted(num_experts, activation, x, weights, chosen, kernels)
    tokens = constrain.spec(("batch", "length", None), x.shape)
    inner = constrain.spec(("experts", None, "mlp"), kernels.up.shape)
    outer = constrain.spec(("experts", "mlp", None), kernels.down.shape)
    expert_axes, inner_axes = _names(inner[0]), _names(inner[2])
    # Rows that do not divide are whole on every device of a group.
    is_apart = bool(expert_axes) and set(expert_axes) <= set(_names(tokens[0]))

    def local(x: jax.Array, weights: jax.Array, chosen: jax.Array, *own: jax.Array) -> jax.Array:
        given = ExpertKernels(own[0], own[1] if len(own) == 3 else None, own[-1])
        here = given.up.shape[0]
        if is_apart:
            together = functools.partial(jax.lax.all_gather, axis_name=expert_axes, axis=0, tiled=True)
            x, weights, chosen = together(x), together(weights), together(chosen)
        if expert_axes:
            chosen = chosen - jax.lax.axis_index(expert_axes) * here
        y = _sorted(here, activation, x, weights, chosen, given)
        partial = inner_axes if is_apart else (*inner_axes, *expert_axes)
        y = jax.lax.psum(y, partial) if partial else y
        return jax.lax.psum_scatter(y, expert_axes, scatter_dimension=0, tiled=True) if is_apart else y

    own = [kernel.astype(x.dtype) for kernel in kernels if kernel is not None]
    specs = (tokens, tokens, tokens, *(inner for _ in own[1:]), outer)
    routed = jax.shard_map(local, mesh=constrain.mesh, in_specs=specs, out_specs=tokens, check_vma=False)
    return routed(x, weights, chosen, *own)


def _sorted(
    num_experts: int,
    activation: Activation,
    x: Float[Array, "batch length d_model"],
    weights: Float[Array, "batch length chosen"],
    chosen: Int[Array, "batch length chosen"],
    kernels: ExpertKernels,
) -> Float[Array, "batch length d_model"]:
    """Returns the weighted sums over those chosen experts that are from 0 on and below `num_experts`."""
    tokens, per_token = x.reshape(-1, x.shape[-1]), chosen.shape[-1]
    is_here = (chosen >= 0) & (chosen < num_experts)
    experts = jnp.where(is_here, chosen, num_experts).reshape(-1)
    order = jnp.argsort(experts, stable=True)
    sizes = jnp.bincount(experts, length=num_experts)

    def grouped(rows: jax.Array, kernels: jax.Array) -> jax.Array:
        return grouped_product(rows, kernels.astype(rows.dtype), sizes)

    made = kernels.applied(grouped, tokens[order // per_token], activation)
    made = made[jnp.argsort(order)].reshape(*chosen.shape, -1)
    return jnp.einsum("blkd,blk->bld", jnp.where(is_here[..., None], made, 0), weights)


def limited(
    x: Float[Array, "batch length d_model"],
    weights: Float[Array, "batch length chosen"],
    chosen: Int[Array, "batch length chosen"],
    kernels: ExpertKernels,
    activation: Activation,
    constrain: Constrain,
    room: int,
    segments: Int[Array, "batch length"] | None = None,
) -> Float[Array, "batch length d_model"]:
    """Returns the same where an expert takes at most `room` tokens of a row, the first ones; 0 for what is dropped.

    Padding, where `segments` are 0, is dropped too.
    """
    batch, length, d_model = x.shape
    num_experts, per_token = kernels.up.shape[0], chosen.shape[-1]
    # First choices before second ones, and within these the tokens in their order.
    by_choice = chosen.swapaxes(1, 2).reshape(batch, -1)
    ones = jax.nn.one_hot(by_choice, num_experts, dtype=jnp.int32)
    if segments is not None:
        ones = ones * jnp.tile(segments > 0, (1, per_token))[..., None]
    places = jnp.sum(jnp.cumsum(ones, axis=1) * ones, axis=-1) - 1
    places = places.reshape(batch, per_token, length).swapaxes(1, 2)
    is_taken = (places >= 0) & (places < room)
    # One slot more, for what is dropped.
    slots = jnp.where(is_taken, chosen * room + places, num_experts * room)
    tokens = jnp.broadcast_to(jnp.arange(length)[None, :, None], slots.shape)
    sources = jnp.full((batch, num_experts * room + 1), length).at[jnp.arange(batch)[:, None, None], slots].set(tokens)
    padded = jnp.pad(x, ((0, 0), (0, 1), (0, 0)))
    sent = jnp.take_along_axis(padded, sources[:, :-1, None], axis=1).reshape(batch, num_experts, room, d_model)
    # From where tokens live to where experts do, and back: the compiler makes an all-to-all of each.
    sent = constrain(sent.swapaxes(0, 1), (None, "batch", None, None))
    sent = constrain(sent, ("experts", "batch", None, None))
    made = kernels.applied(_by_expert, sent, activation)
    made = constrain(constrain(made, ("experts", "batch", None, None)), (None, "batch", None, None))
    made = jnp.pad(made.swapaxes(0, 1).reshape(batch, -1, d_model), ((0, 0), (0, 1), (0, 0)))
    back = jnp.take_along_axis(made, slots.reshape(batch, -1, 1), axis=1).reshape(*slots.shape, d_model)
    return jnp.einsum("blkd,blk->bld", back, weights)


def _by_expert(x: Float[Array, "experts batch room inner"], kernels: Float[Array, "experts inner _outer"]) -> jax.Array:
    return jnp.einsum("ebrd,edf->ebrf", x, kernels.astype(x.dtype))


def _names(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (axes,) if isinstance(axes, str) else tuple(axes or ())

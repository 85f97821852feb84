"""The feed-forward layer, plain or gated (arXiv 2002.05202: SwiGLU, GeGLU), at once or in parts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from triarch.errors import UserError
from triarch.models.layers.activations import ACTIVATIONS
from triarch.models.layers.context import StackContext
from triarch.models.layers.dropout import DropoutKeys, dropped
from triarch.models.layers.parts import Site
from triarch.models.layers.projection import affines, project
from triarch.models.precision import at_least_float32

# Of the layer or of some of its inner units: "kernels" and "biases" of gate and up, or of up alone, and "down".
Weights = dict[str, Any]


class FeedForward(nnx.Module):
    """The module of `Dense`."""

    def __init__(self, site: Site):
        config, execution = site.shape, site.execution
        self.activation = ACTIVATIONS[config.activation]
        self.execution = execution
        self.constrain = site.constrain
        self.shards = site.constrain.shards("mlp", config.d_ff)
        _check_parts(config.d_ff, self.shards, execution.feed_forward_parts)
        shape = (config.d_model, config.d_ff)
        axes = ("embed", "mlp")
        self.gate = site.kernel(shape, axes) if config.gated_mlp else None
        self.up = site.kernel(shape, axes)
        self.down = site.residual_kernel(shape[::-1], axes[::-1])
        self.gate_bias = site.bias(config.d_ff, "mlp") if config.mlp_bias and config.gated_mlp else None
        self.up_bias = site.bias(config.d_ff, "mlp") if config.mlp_bias else None
        self.down_bias = site.bias(config.d_model, "embed") if config.mlp_bias else None

    def __call__(
        self, x: Float[Array, "batch length d_model"], context: StackContext | None = None
    ) -> Float[Array, "batch length d_model"]:
        inner = (self.gate, self.gate_bias), (self.up, self.up_bias)
        weights = {
            "kernels": tuple(kernel[...] for kernel, _ in inner if kernel is not None),
            "biases": tuple(None if bias is None else bias[...] for kernel, bias in inner if kernel is not None),
            "down": self.down[...],
        }
        if self.execution.feed_forward_parts == 1:
            y = self._part(x, weights, None if context is None else context.dropout)
        else:
            y = _summed(self._gathered_part, x, self._cut(weights))
        return y if self.down_bias is None else y + self.down_bias[...].astype(y.dtype)

    def _part(self, x: jax.Array, weights: Weights, dropout: DropoutKeys | None = None) -> jax.Array:
        """Returns what some of the inner units, or all, add to the output."""
        outer = affines(x, *zip(weights["kernels"], weights["biases"], strict=True))
        outer = tuple(self.constrain(y, ("batch", "length", "mlp")) for y in outer)
        inner = self.activation(*outer) if len(outer) == 1 else _gated(self.activation, *outer)
        return project(dropped(inner, dropout, "inner"), weights["down"])[0]

    def _gathered_part(self, x: jax.Array, weights: Weights) -> jax.Array:
        """The same of weights that are still where they live."""
        if self.execution.gather == "layer":
            gathered = functools.partial(self.constrain.gathered, dtype=self.execution.dtype)
            kernels = tuple(gathered(kernel, ("embed", "mlp")) for kernel in weights["kernels"])
            weights = weights | {"kernels": kernels, "down": gathered(weights["down"], ("mlp", "embed"))}
        return self._part(x, weights)

    def _cut(self, weights: Weights) -> list[Weights]:
        """Returns the weights of each part, which has as many units as any other on every device."""
        parts, shards = self.execution.feed_forward_parts, self.shards

        def cut(x: jax.Array, axis: int) -> list[jax.Array]:
            split = x.reshape(*x.shape[:axis], shards, parts, -1, *x.shape[axis + 1 :])
            whole = (*x.shape[:axis], -1, *x.shape[axis + 1 :])
            return [part.reshape(whole) for part in jnp.unstack(split, axis=axis + 1)]

        kernels = zip(*(cut(kernel, 1) for kernel in weights["kernels"]), strict=True)
        biases = zip(*([None] * parts if b is None else cut(b, 0) for b in weights["biases"]), strict=True)
        return [
            {"kernels": kernel, "biases": bias, "down": down}
            for kernel, bias, down in zip(kernels, biases, cut(weights["down"], 0), strict=True)
        ]


def _check_parts(d_ff: int, shards: int, parts: int) -> None:
    if d_ff % (shards * parts):
        split = f" split over {shards} devices" if shards > 1 else ""
        raise UserError(f"Execution.feed_forward_parts = {parts}: expected a divisor of d_ff = {d_ff}{split}")


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summed(part: Callable[[jax.Array, Weights], jax.Array], x: jax.Array, weights: list[Weights]) -> jax.Array:
    """Sums `part` over `weights`, one after another; the backward pass computes each part anew.

    Parts are of inner units, not of tokens: so a part's gradients of weights are whole, and are sent once. Barriers
    keep the compiler from beginning a part before the last is done; what it gathers it may still fetch early. They are
    no loop, since within a loop in the loop over layers TPUs gather by summing zeros: twice the traffic.
    """
    total, after = jnp.zeros((), at_least_float32(x.dtype)), x
    for some in weights:
        total = total + part(after, some)
        total, after = jax.lax.optimization_barrier((total, x))
    return total.astype(x.dtype)


def _summed_forward(part, x, weights):
    return _summed(part, x, weights), (x, weights)


def _summed_backward(part, saved, slope):
    x, weights = saved
    total, slopes, after = jnp.zeros((), at_least_float32(x.dtype)), [], (x, slope)
    for some in weights:
        _, pull = jax.vjp(part, after[0], some)
        x_slope, last = pull(after[1])
        # With the last part's gradients: else they would wait to be sent, and be held, until all are there.
        total, last, after = jax.lax.optimization_barrier((total + x_slope, last, (x, slope)))
        slopes.append(last)
    return total.astype(x.dtype), slopes


_summed.defvjp(_summed_forward, _summed_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gated(activation: Callable[[jax.Array], jax.Array], gate: jax.Array, up: jax.Array) -> jax.Array:
    """activation(gate) * up, of which the backward pass finds only gate and up saved."""
    return activation(gate) * up


def _gated_forward(activation, gate, up):
    return _gated(activation, gate, up), (gate, up)


def _gated_backward(activation, saved, slope):
    gate, up = saved
    activated, pull = jax.vjp(activation, gate)
    return pull(slope * up)[0], slope * activated


_gated.defvjp(_gated_forward, _gated_backward)

"""Softmax cross-entropy with z-loss over a large vocabulary, logits never held whole."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from triarch.models.layers.embedding import Unembedding
from triarch.models.layers.projection import outer_products
from triarch.objectives.spread import Spread


class LossSums(NamedTuple):
    """Weighted sums over tokens, all float32 scalars; divide by `weight_sum` for means.

    Attributes:
      loss_sum: cross-entropy in nats.
      z_loss_sum: z_loss * (log Z)^2 (PaLM, arXiv 2204.02311, section 5; T5X).
      weight_sum: the weights themselves.
      correct_sum: 1 where the target has the highest logit.
    """

    loss_sum: jax.Array
    z_loss_sum: jax.Array
    weight_sum: jax.Array
    correct_sum: jax.Array


def token_losses(
    hidden: Float[Array, "batch length d_model"],
    unembedding: Unembedding,
    targets: Int[Array, "batch length"],
    chunk: int,
) -> Float[Array, "batch length"]:
    """Returns the cross-entropy of every target in nats, `chunk` positions of each row at a time."""

    def one(hidden: jax.Array, targets: jax.Array) -> jax.Array:
        log_z, target_logit, _ = _log_z(unembedding.logits(hidden), targets)
        return log_z - target_logit

    chunks = [_chunked(x, _chunk_size(chunk, targets.shape[1])) for x in (hidden, targets)]
    return _joined(jax.lax.map(lambda pair: one(*pair), tuple(chunks)), targets.shape[1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def cross_entropy(
    hidden: Float[Array, "batch length d_model"],
    unembedding: Unembedding,
    targets: Int[Array, "batch length"],
    weights: Float[Array, "batch length"],
    z_loss: float,
    chunk: int,
    spread: Spread | None = None,
) -> tuple[Float[Array, ""], LossSums]:
    """Returns the summed loss, and what it is made of.

    Differentiable in `hidden` and `unembedding`. Since the loss is one number, its gradient is known up to a factor
    while the logits of a chunk are at hand: the forward pass takes it along, and no logits are computed twice.

    Args:
      hidden: final states.
      unembedding: the map from states to logits.
      targets: ids to predict.
      weights: weight of each target; 0 leaves it out.
      z_loss: coefficient of (log Z)^2.
      chunk: positions of each row whose logits are held at once; 0 means all.
      spread: of the tokens over devices; None for one device.

    Returns:
      (sum of weights * (cross-entropy + z-loss), its parts); the parts carry no gradient.
    """
    sums, *_ = _scan_tokens(hidden, unembedding, targets, weights, z_loss, chunk, spread, with_gradient=False)
    return sums.loss_sum + sums.z_loss_sum, sums


def _forward(hidden, unembedding, targets, weights, z_loss, chunk, spread):
    sums, kernel_gradient, bias_gradient, hidden_gradient = _scan_tokens(
        hidden, unembedding, targets, weights, z_loss, chunk, spread, with_gradient=True
    )
    kernel_gradient = kernel_gradient.T.astype(unembedding.kernel.dtype)
    gradient = dataclasses.replace(unembedding, kernel=kernel_gradient, bias=bias_gradient)
    return (sums.loss_sum + sums.z_loss_sum, sums), (hidden_gradient, gradient)


def _backward(z_loss, chunk, spread, gradients, cotangents):
    factor, _ = cotangents
    hidden_gradient, unembedding_gradient = jax.tree.map(lambda g: (g * factor).astype(g.dtype), gradients)
    return hidden_gradient, unembedding_gradient, None, None


cross_entropy.defvjp(_forward, _backward)


def _scan_tokens(hidden, unembedding, targets, weights, z_loss, chunk, spread, with_gradient):
    """As `_scan_chunks`, whatever devices the tokens lie on: each loops over its own, and sums meet once at the end."""
    if spread is None:
        return _scan_chunks(unembedding, z_loss, chunk, with_gradient, hidden, targets, weights)
    local = dataclasses.replace(unembedding, kernel=spread.gathered(unembedding.kernel, hidden.dtype))
    one_device = functools.partial(_scan_chunks, local, z_loss, chunk, with_gradient)
    tokens = (spread.apart(x) for x in (hidden, targets, weights))
    sums, kernel_gradient, bias_gradient, hidden_gradient = jax.vmap(jax.vmap(one_device))(*tokens)
    sums, bias_gradient = jax.tree.map(lambda x: jnp.sum(x, axis=(0, 1)), (sums, bias_gradient))
    if not with_gradient:
        return sums, None, None, None
    kernel_gradient = spread.summed(kernel_gradient, hidden.dtype)
    # Before the layers' backward pass begins: all through it each device would hold a whole one.
    kernel_gradient, hidden_gradient = jax.lax.optimization_barrier((kernel_gradient, hidden_gradient))
    return sums, kernel_gradient, bias_gradient, spread.together(hidden_gradient)


def _scan_chunks(unembedding, z_loss, chunk, with_gradient, hidden, targets, weights):
    """Returns (LossSums, transposed kernel gradient, bias gradient, hidden gradient); None if not asked."""
    step = functools.partial(_one_chunk, unembedding, z_loss, with_gradient)
    if _chunk_size(chunk, targets.shape[1]) == targets.shape[1]:
        return step(hidden, targets, weights)
    inputs = [_chunked(x, _chunk_size(chunk, targets.shape[1])) for x in (hidden, targets, weights)]

    def add(carry, xs):
        *totals, hidden_gradient = step(*xs)
        return jax.tree.map(jnp.add, carry, tuple(totals)), hidden_gradient

    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(step, *[x[0] for x in inputs])[:3])
    totals, hidden_chunks = jax.lax.scan(add, zeros, tuple(inputs))
    return *totals, _joined(hidden_chunks, hidden.shape[1]) if with_gradient else None


def _one_chunk(unembedding, z_loss, with_gradient, hidden, targets, weights):
    """Returns (LossSums, transposed kernel gradient, bias gradient, hidden gradient) of a chunk; None if not asked."""
    logits = unembedding.logits(hidden)
    log_z, target_logit, highest = _log_z(logits, targets)
    sums = LossSums(
        loss_sum=jnp.sum(weights * (log_z - target_logit)),
        z_loss_sum=jnp.sum(weights * z_loss * log_z**2),
        weight_sum=jnp.sum(weights),
        correct_sum=jnp.sum(weights * (target_logit >= highest)),
    )
    if not with_gradient:
        return sums, None, None, None
    pull = weights * (1 + 2 * z_loss * log_z)
    is_target = jnp.arange(logits.shape[-1]) == targets[..., None]
    slope = jnp.exp(logits - log_z[..., None]) * pull[..., None] - jnp.where(is_target, weights[..., None], 0)
    if unembedding.softcap is not None:
        slope *= 1 - (logits / unembedding.softcap) ** 2
    bias_gradient = None if unembedding.bias is None else jnp.sum(slope, axis=(0, 1))
    slope = (slope * unembedding.scale).astype(hidden.dtype)
    hidden_gradient = jnp.einsum("blv,vd->bld", slope, unembedding.kernel.astype(hidden.dtype))
    # Transposed, [d_model, vocab], as it is fastest to add up; `_forward` turns the sum once.
    (kernel_gradient,) = outer_products(hidden, (slope,))
    return sums, kernel_gradient, bias_gradient, hidden_gradient


def _log_z(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the log partition function, the target's logit and the highest logit of every token."""
    highest = jnp.max(logits, axis=-1)
    log_z = highest + jnp.log(jnp.sum(jnp.exp(logits - highest[..., None]), axis=-1))
    target_logit = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return log_z, target_logit, highest


def _chunk_size(chunk: int, length: int) -> int:
    """The size of the fewest chunks of at most `chunk`, as equal as can be, so that little is padded."""
    if chunk <= 0 or chunk >= length:
        return length
    number = math.ceil(length / chunk)
    return math.ceil(length / number)


def _chunked(x: Array, size: int) -> Array:
    """[batch, length, ...] -> [number, batch, size, ...], with zeros after the end: padding has weight 0."""
    batch, length, *rest = x.shape
    number = math.ceil(length / size)
    padded = jnp.pad(x, ((0, 0), (0, number * size - length), *((0, 0) for _ in rest)))
    return jnp.moveaxis(padded.reshape(batch, number, size, *rest), 1, 0)


def _joined(chunks: Array, length: int) -> Array:
    """Undoes `_chunked`."""
    number, batch, size, *rest = chunks.shape
    return jnp.moveaxis(chunks, 0, 1).reshape(batch, number * size, *rest)[:, :length]

"""A convolution over the last few tokens, each channel by itself, as Mamba has it before its recurrence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from triarch.models.recurrent.documents import shifted


def convolve(
    x: Float[Array, "batch length channels"],
    kernel: Float[Array, "width channels"],
    bias: Float[Array, " channels"] | None,
    before: Float[Array, "batch before channels"] | None,
    documents: Int[Array, "batch length"] | None,
) -> Float[Array, "batch length channels"]:
    """Returns the sum of each token's last `width` inputs by the kernel's rows, its own input by the last of them.

    Args:
      x: the inputs.
      kernel: a row for each distance, the farthest first.
      bias: added; None for none.
      before: inputs that stood in front of the row, width - 1 of them; None: zeros.
      documents: number of each token's document, over whose beginning it does not look; None: all are one.
    """
    width = kernel.shape[0]
    kernel = kernel.astype(x.dtype)
    total = x * kernel[-1]
    for distance in range(1, width):
        earlier = shifted(x, distance, before)
        if documents is not None:
            same = shifted(documents, distance) == documents
            earlier = jnp.where(same[..., None], earlier, 0)
        total = total + earlier * kernel[width - 1 - distance]
    return total if bias is None else total + bias.astype(x.dtype)


def last_inputs(
    x: Float[Array, "batch length channels"],
    width: int,
    before: Float[Array, "batch before channels"] | None,
    documents: Int[Array, "batch length"] | None,
) -> Float[Array, "batch before channels"]:
    """Returns what a convolution is to be given as `before` to continue: zeros for other documents' inputs."""
    count = width - 1
    if documents is not None:
        x = jnp.where((documents == documents[:, -1:])[..., None], x, 0)
        is_old = documents[:, -1] == 0
        before = None if before is None else jnp.where(is_old[:, None, None], before, 0)
    if before is None:
        before = jnp.zeros((x.shape[0], count, x.shape[2]), x.dtype)
    joined: jax.Array = jnp.concatenate([before, x], axis=1)
    return joined[:, joined.shape[1] - count :]

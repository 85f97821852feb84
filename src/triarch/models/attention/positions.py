"""Where a token stands: positions of padded and packed inputs, and the rotary embedding that encodes them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from triarch.models.attention.rope import Rope
from triarch.models.precision import at_least_float32

# Cosines and sines.
Angles = tuple[Float[Array, "batch length 1 half"], Float[Array, "batch length 1 half"]]


def positions_in_segments(segments: Int[Array, "batch length"]) -> Int[Array, "batch length"]:
    """Returns each token's index within its segment: 0, 1, ... anew wherever the segment id changes.

    Padding (id 0) on the left is a segment of its own, so that the first real token is at 0 also there.
    """
    index = jnp.arange(segments.shape[1])
    starts = jnp.concatenate([jnp.ones_like(segments[:, :1], bool), segments[:, 1:] != segments[:, :-1]], axis=1)
    return index - jax.lax.cummax(jnp.where(starts, index, 0), axis=1)


def continued_positions(
    decoder_positions: Int[Array, "batch target"],
    decoder_segments: Int[Array, "batch target"],
    encoder_positions: Int[Array, "batch source"],
    encoder_segments: Int[Array, "batch source"],
) -> Int[Array, "batch target"]:
    """Returns decoder positions that count on from the encoder's last real token (arXiv 2510.26622, fig. 1).

    A decoder segment with nothing in the encoder starts at 0.
    """
    same = decoder_segments[:, :, None] == encoder_segments[:, None, :]
    same &= encoder_segments[:, None, :] > 0
    lengths = jnp.max(jnp.where(same, encoder_positions[:, None, :] + 1, 0), axis=-1)
    return decoder_positions + lengths


def text_lengths(positions: Int[Array, "batch length"], segments: Int[Array, "batch length"] | None) -> jax.Array:
    """Returns how far the longest text of each row reaches, int[batch]: its last token's position and one."""
    real = positions if segments is None else jnp.where(segments > 0, positions, 0)
    return jnp.max(real, axis=1) + 1


def rotary_angles(
    positions: Int[Array, "batch length"], head_dim: int, rope: Rope, lengths: Int[Array, " batch"] | None = None
) -> Angles:
    """Returns float32 cosines and sines of the rotary embedding (arXiv 2104.09864), half-split convention.

    Where the base grows with the text, `lengths` has the tokens of each row's longest (None: as many as the positions
    tell), so that no row depends on another.
    """
    frequencies = jnp.asarray(rope.frequencies(head_dim))
    scaling = rope.scaling
    if scaling is not None and scaling.kind == "dynamic":
        lengths = text_lengths(positions, None) if lengths is None else lengths
        assert scaling.original_length is not None
        growth = jnp.maximum(1.0, scaling.factor * (lengths / scaling.original_length) - (scaling.factor - 1.0))
        frequencies = frequencies / growth[:, None, None, None] ** jnp.asarray(rope.exponents(head_dim))
    angles = positions[..., None, None] * frequencies
    both = jax.lax.platform_dependent(angles, cpu=_looped_cos_sin, default=lambda x: (jnp.cos(x), jnp.sin(x)))
    return both if rope.magnitude == 1.0 else (both[0] * rope.magnitude, both[1] * rope.magnitude)


def _looped_cos_sin(angles: jax.Array) -> tuple[jax.Array, jax.Array]:
    """XLA on a CPU would take both anew in each layer for each head; it fuses nothing with a loop."""
    both = jax.lax.map(lambda sine: jax.lax.cond(sine, jnp.sin, jnp.cos, angles), jnp.array([False, True]))
    return both[0], both[1]


def rotate(
    x: Float[Array, "batch length heads head_dim"], angles: Angles
) -> Float[Array, "batch length heads head_dim"]:
    """Rotates the pair (x[i], x[i + half]) of every head by its token's i-th angle. Keeps the dtype.

    What of a head lies behind the last pair, where the angles are fewer than its half, stays as it is.
    """
    cos, sin = angles
    width = 2 * cos.shape[-1]
    first, second = jnp.split(x[..., :width].astype(at_least_float32(x.dtype)), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
    return rotated if width == x.shape[-1] else jnp.concatenate([rotated, x[..., width:]], axis=-1)

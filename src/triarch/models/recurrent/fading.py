"""Averages whose weights fade with distance, channel by channel (RWKV-4, arXiv 2305.13048, equations 14 and 19 to 27).

y_t = (sum over i < t of exp(k_i - (t - 1 - i) w) v_i + exp(k_t + u) v_t) / (the same without v).

A sum of exponentials is held as (exponent p, numerator a, denominator b): a exp(p) and b exp(p), so that nothing
overflows. Sums of neighbouring stretches of a text can be joined, so all beginnings of a text are summed by a scan of
logarithmic depth.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from triarch.models.precision import at_least_float32

# Exponents of nothing, and what fades altogether; far enough within float32 that some may be added up.
_NOTHING = -1e30
_ALL = 1e30

State = dict[str, Float[Array, "batch channels"]]
_NAMES = ("exponent", "numerator", "denominator")


def average(
    key: Float[Array, "batch length channels"],
    value: Float[Array, "batch length channels"],
    decay: Float[Array, " channels"],
    bonus: Float[Array, " channels"],
    state: State | None,
    continues: Bool[Array, "batch length"] | None,
) -> tuple[Float[Array, "batch length channels"], State]:
    """Returns each token's average, and the sums after the last one.

    Args:
      key: logarithms of weights.
      value: what is averaged.
      decay: logarithm of w, by which weights fade with each token.
      bonus: u, what a token's own key has more.
      state: sums before the row; None: nothing was read.
      continues: False where a token begins a document of its own; None: nowhere.
    """
    wide = at_least_float32(key.dtype)
    k, v = key.astype(wide), value.astype(wide)
    fades = jnp.broadcast_to(jnp.exp(decay.astype(wide)), k.shape)
    if continues is not None:
        fades = jnp.where(continues[..., None], fades, _ALL)
    faded, *sums = jax.lax.associative_scan(_joined, (fades, k, v, jnp.ones_like(v)), axis=1)
    if state is None:
        nothing = jnp.full_like(k[:, 0], _NOTHING)
        state = dict(zip(_NAMES, (nothing, jnp.zeros_like(nothing), jnp.zeros_like(nothing)), strict=True))
    first = tuple(state[name][:, None] for name in _NAMES)
    _, *sums = _joined((jnp.zeros_like(fades[:, :1]), *first), (faded, *sums))
    exponent, numerator, denominator = (
        jnp.concatenate([begin, x[:, :-1]], axis=1) for begin, x in zip(first, sums, strict=True)
    )
    if continues is not None:
        exponent = jnp.where(continues[..., None], exponent, _NOTHING)
    own = k + bonus.astype(wide)
    most = jax.lax.stop_gradient(jnp.maximum(exponent, own))
    before, now = jnp.exp(exponent - most), jnp.exp(own - most)
    y = (before * numerator + now * v) / (before * denominator + now)
    return y.astype(key.dtype), {name: x[:, -1] for name, x in zip(_NAMES, sums, strict=True)}


def _joined(left: tuple, right: tuple) -> tuple:
    """Returns how much what was before two stretches fades over both, and the sums of both at their end."""
    (left_fades, p, a, b), (fades, q, c, d) = left, right
    # The choice of the common exponent changes no sum.
    most = jax.lax.stop_gradient(jnp.maximum(p - fades, q))
    old, new = jnp.exp(p - fades - most), jnp.exp(q - most)
    return left_fades + fades, most, old * a + new * c, old * b + new * d

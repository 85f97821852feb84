"""Transposition in a pass of its own."""

from __future__ import annotations

import jax
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array, Shaped


def transposed(x: Shaped[Array, "*batch rows columns"]) -> Shaped[Array, "*batch columns rows"]:
    """Returns `x` with its last two axes swapped, as an array in memory.

    On a CPU, XLA would fuse a transposition with what makes `x`, and repeat both for every reader: several times as
    slow as to copy once. A barrier does not keep it from that, a call that is not inlined does.
    """
    return jax.lax.platform_dependent(x, cpu=_apart, default=lambda x: jax.lax.optimization_barrier(x.mT))


@jax.jit
def _swapped(x: jax.Array) -> jax.Array:
    return x.mT


def _apart(x: jax.Array) -> jax.Array:
    with set_xla_metadata(inlineable="false"):
        return _swapped(x)

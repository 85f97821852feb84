"""What tells one model's parameters from another's."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from triarch.interchange import LoadedModel
from triarch.models import Transformer


def parameter_checksums(model: LoadedModel) -> list[int]:
    """Returns two numbers that change, but by rare chance, when any parameter does."""
    return [int(one) for one in model.compiled(_checksums)({}).ravel()]


def _checksums(model: Transformer, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Returns uint32[2]: sums over all parameters' bits, plain and weighted by place, modulo 2^32."""
    total = jnp.zeros(2, jnp.uint32)
    for leaf in jax.tree.leaves(nnx.state(model)):
        bits = jax.lax.bitcast_convert_type(jnp.ravel(leaf).astype(jnp.float32), jnp.uint32)
        weights = jnp.arange(bits.size, dtype=jnp.uint32) * np.uint32(2654435761) + np.uint32(1)
        # What came before is multiplied, so that the order of parameters counts too.
        total = total * np.uint32(31) + jnp.stack([jnp.sum(bits), jnp.sum(bits * weights)])
    return total

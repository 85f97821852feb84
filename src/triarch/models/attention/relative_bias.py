"""Biases of attention's logits by the distance of query and key, as T5 has them (arXiv 1910.10683, section 2.1)."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from triarch.models import parameters
from triarch.models.shape import Shape


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RelativeBias:
    """A learned number for each head and bucket of distances.

    Attributes:
      table: the numbers.
      bidirectional: whether keys to the right have buckets of their own; without, they share the one of distance 0.
      max_distance: tokens beyond which all distances share the last bucket.
    """

    table: Float[Array, "buckets heads"]
    bidirectional: bool = dataclasses.field(metadata={"static": True})
    max_distance: int = dataclasses.field(metadata={"static": True})

    def block(self, queries: slice, keys: slice) -> Float[Array, "1 heads query key"]:
        """Returns what is added to the logits of ranges of queries and keys."""
        offsets = np.arange(keys.start, keys.stop)[None, :] - np.arange(queries.start, queries.stop)[:, None]
        buckets = relative_buckets(offsets, self.table.shape[0], self.bidirectional, self.max_distance)
        return jnp.moveaxis(self.table[buckets], -1, 0)[None]

    def before(self, distances: Int[Array, "query key"], reach: int) -> Float[Array, "1 heads query key"]:
        """Returns what is added for keys `distances` tokens before their query (below `reach`; none is after it)."""
        buckets = relative_buckets(-np.arange(reach), self.table.shape[0], self.bidirectional, self.max_distance)
        return jnp.moveaxis(self.table[buckets][jnp.clip(distances, 0, reach - 1)], -1, 0)[None]


def relative_buckets(offsets: np.ndarray, buckets: int, bidirectional: bool, max_distance: int) -> np.ndarray:
    """Returns T5's bucket of each offset (key's place minus query's): exact when near, logarithmic when far."""
    if bidirectional:
        buckets //= 2
        side, distance = buckets * (offsets > 0), np.abs(offsets)
    else:
        side, distance = np.zeros_like(offsets), np.maximum(-offsets, 0)
    exact = buckets // 2
    # In float32, as the reference implementations round it.
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(max_distance / exact)
    )
    far = np.minimum(exact + (ratio * np.float32(buckets - exact)).astype(np.int64), buckets - 1)
    return side + np.where(distance < exact, distance, far)


def relative_bias_table(shape: Shape, rngs: nnx.Rngs) -> nnx.Param:
    """Returns the biases of a stack, or of one layer, with fresh values."""
    size = (shape.relative_buckets, shape.num_heads)
    return parameters.normal(rngs, size, 1 / math.sqrt(shape.d_model), (None, "heads"), "table")

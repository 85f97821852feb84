"""How the product of a query and a key becomes the logit that softmax sees: scale, soft cap, bias by distance."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

# The logit of a key that a query may not see. Far below any logit, yet finite: softmax over nothing but this is no NaN.
MASKED = -1e30


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RelativeBias:
    """A learned number for each head and bucket of distances (T5, arXiv 1910.10683, section 2.1).

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
        side: np.ndarray | int
        side, distance = buckets * (offsets > 0), np.abs(offsets)
    else:
        side, distance = 0, np.maximum(-offsets, 0)
    exact = buckets // 2
    # In float32, as the reference implementations round it.
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(max_distance / exact)
    )
    far = np.minimum(exact + (ratio * np.float32(buckets - exact)).astype(np.int64), buckets - 1)
    return side + np.where(distance < exact, distance, far)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scores:
    """logit = cap(scale * query . key) + bias.

    Attributes:
      scale: factor on the products.
      softcap: logits x become softcap * tanh(x / softcap) (Gemma 2, arXiv 2408.00118); None leaves them.
      bias: by distance, added last.
    """

    scale: float = dataclasses.field(metadata={"static": True})
    softcap: float | None = dataclasses.field(default=None, metadata={"static": True})
    bias: RelativeBias | None = None

    def capped(self, products: Array) -> Array:
        """Scales products and caps them."""
        return soft_cap(products * self.scale, self.softcap)

    def slope(self, capped: Array) -> Array | float:
        """Returns the derivative of `capped` by the product, given its result."""
        return self.scale if self.softcap is None else self.scale * (1 - (capped / self.softcap) ** 2)


def soft_cap(x: Array, cap: float | None) -> Array:
    """Returns cap * tanh(x / cap), or `x` without a cap."""
    return x if cap is None else cap * jnp.tanh(x / cap)

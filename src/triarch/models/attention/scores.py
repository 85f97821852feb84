"""How the product of a query and a key becomes the logit that softmax sees: scale, soft cap, bias by distance."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array

from triarch.models.attention.relative_bias import RelativeBias

# The logit of a key that a query may not see. Far below any logit, yet finite: softmax over nothing but this is no NaN.
MASKED = -1e30


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

"""Tokens of a loss spread over devices: each device's own, so that what all of them add to is summed once."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from triarch.models import Transformer
from triarch.models.placing import Constrain

_TOKENS = ("batch", "length")
_KERNEL = ("vocab", "embed")


@dataclasses.dataclass(frozen=True)
class Spread:
    """Where tokens and the unembedding lie on a mesh.

    Attributes:
      constrain: places arrays by the logical names of their axes.
      narrow_sums: devices add up gradients of the unembedding in the type of activations, not in float32.
    """

    constrain: Constrain
    narrow_sums: bool

    def apart(self, x: Shaped[Array, "batch length *rest"]) -> Shaped[Array, "rows columns batch length *rest"]:
        """Cuts tokens into what each device has: `rows` by `columns` shards, whose own axes are never split."""
        batch, length, *rest = x.shape
        rows, columns = self.constrain.shards("batch", batch), self.constrain.shards("length", length)
        cut = x.reshape(rows, batch // rows, columns, length // columns, *rest).swapaxes(1, 2)
        return self._shards(cut)

    def together(self, x: Shaped[Array, "rows columns batch length *rest"]) -> Shaped[Array, "batch length *rest"]:
        """Undoes `apart`."""
        rows, columns, batch, length, *rest = x.shape
        whole = self._shards(x).swapaxes(1, 2).reshape(rows * batch, columns * length, *rest)
        return self.constrain(whole, (*_TOKENS, *(None for _ in rest)))

    def gathered(self, kernel: Float[Array, "vocab d_model"], dtype: jnp.dtype) -> Float[Array, "vocab d_model"]:
        """Returns the unembedding in `dtype`, brought together once, before the loop over chunks."""
        return self.constrain.gathered(kernel, _KERNEL, dtype)

    def summed(
        self, gradients: Float[Array, "rows columns d_model vocab"], dtype: jnp.dtype
    ) -> Float[Array, "d_model vocab"]:
        """Returns the sum over devices, laid out like the unembedding itself."""
        gradients = gradients.astype(dtype) if self.narrow_sums else gradients
        gradients = self.constrain(gradients, (*_TOKENS, None, "vocab"))
        return self.constrain.at_home(jnp.sum(gradients, axis=(0, 1)), _KERNEL[::-1])

    def _shards(self, x: jax.Array) -> jax.Array:
        return self.constrain(x, (*_TOKENS, *(None for _ in x.shape[2:])))


def spread_of(model: Transformer) -> Spread | None:
    """Returns how a model's tokens are spread; None on one device."""
    if model.constrain.mesh is None:
        return None
    return Spread(model.constrain, narrow_sums=model.execution.gather == "layer")

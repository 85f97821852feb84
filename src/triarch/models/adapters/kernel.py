"""What stands in a layer in place of a kernel that is adapted, or held in few bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from triarch.models.adapters.quantised import Quantised
from triarch.models.layers.dropout import DropoutKeys, dropped

Product = Callable[[jax.Array, jax.Array], jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdaptedKernel:
    """A base W that is not trained, and A and B by which W + scale A B is meant.

    `multiplied` computes products without the sum. Whoever uses the kernel otherwise, as an array, gets the sum.

    Attributes:
      base: W, [..., inputs, outputs].
      down: A, [..., inputs, rank]; None for no update.
      up: B, [..., rank, outputs].
      keys: of the dropout before A; None for none.
      scale: of the update.
      number: tells the dropout from that of others in the layer.
    """

    base: jax.Array | Quantised
    down: jax.Array | None
    up: jax.Array | None
    keys: DropoutKeys | None = None
    scale: float = dataclasses.field(default=1.0, metadata={"static": True})
    number: int = dataclasses.field(default=0, metadata={"static": True})

    @property
    def values(self) -> jax.Array:
        """W as an array, float32 where it is held in few bits."""
        return self.base.values() if isinstance(self.base, Quantised) else self.base

    @property
    def sum(self) -> jax.Array:
        """W + scale A B."""
        return self.values if self.down is None or self.up is None else self.values + self.scale * (self.down @ self.up)

    def multiplied(self, product: Product, x: jax.Array) -> jax.Array:
        """Returns product(x, W) + scale product(product(x, A), B), for whatever multiplies by kernels."""
        if isinstance(self.base, Quantised):
            # The backward pass keeps the codes, not what they stand for.
            y = jax.checkpoint(lambda x, base: product(x, base.values().astype(x.dtype)))(x, self.base)
        else:
            y = product(x, self.base)
        if self.down is None or self.up is None:
            return y
        inner = dropped(x, None if self.keys is None else self.keys.within(self.number), "adapter")
        return y + self.scale * product(product(inner, self.down), self.up)

    def with_keys(self, keys: DropoutKeys | None) -> AdaptedKernel:
        """Returns the kernel with the keys of its dropout."""
        return self if keys is None else dataclasses.replace(self, keys=keys)

    def with_base(self, function: Callable[[jax.Array], jax.Array]) -> AdaptedKernel:
        """Returns the kernel with `function` of its base where that is an array; codes stay as they are."""
        return self if isinstance(self.base, Quantised) else dataclasses.replace(self, base=function(self.base))

    @property
    def shape(self) -> tuple[int, ...]:
        return jax.eval_shape(lambda: self.values).shape if isinstance(self.base, Quantised) else self.base.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.dtype(jnp.float32) if isinstance(self.base, Quantised) else self.base.dtype

    def __getitem__(self, key: Any) -> Any:
        return self if key is Ellipsis else self.sum[key]

    def __jax_array__(self) -> jax.Array:
        return self.sum

    def astype(self, dtype: jnp.dtype) -> jax.Array:
        return self.sum.astype(dtype)

    def reshape(self, *shape: Any) -> jax.Array:
        return self.sum.reshape(*shape)

    def __rmatmul__(self, x: jax.Array) -> jax.Array:
        return x @ self.sum


def multiplied(product: Product, x: jax.Array, kernel: jax.Array | AdaptedKernel) -> jax.Array:
    """Returns `product(x, kernel)` of a kernel, adapted or not."""
    return kernel.multiplied(product, x) if isinstance(kernel, AdaptedKernel) else product(x, kernel)

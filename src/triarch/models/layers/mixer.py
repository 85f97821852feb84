"""The interface of mixers, the sublayers by which tokens see each other: attention, or a recurrence."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from triarch.models.layers.context import StackContext

# What a mixer keeps of the tokens it has read; see `Mixer`.
Kept = Any


class Mixer(nnx.Module):
    """How the tokens of one layer see each other.

    What a mixer keeps of the tokens it has read is its own: any pytree of arrays whose first axis is the batch.
    Decoding hands it back and knows nothing else of it.
    """

    def __call__(
        self, x: Float[Array, "batch length d_model"], context: StackContext
    ) -> Float[Array, "batch length d_model"]:
        """Returns what each token takes from those that it may see; for training and scoring."""
        raise NotImplementedError

    def prefill(
        self, x: Float[Array, "batch length d_model"], context: StackContext, capacity: int
    ) -> tuple[Float[Array, "batch length d_model"], Kept]:
        """The same for prompts whose last tokens stand in the last column; also returns what is to be kept.

        Args:
          x: the prompts; padding stands on the left.
          context: as for `__call__`.
          capacity: columns of prompts and of what is to follow.
        """
        raise NotImplementedError

    def extend(
        self, x: Float[Array, "batch count d_model"], kept: Kept, context: StackContext
    ) -> tuple[Float[Array, "batch count d_model"], Kept]:
        """The same for tokens that follow those which are kept, each seeing itself and all before it.

        Args:
          x: one token or a few of every row; none is padding.
          kept: what `prefill` or `extend` returned last.
          context: its `columns` say where the tokens stand.
        """
        raise NotImplementedError

    def reorder(self, kept: Kept, rows: Int[Array, " batch"]) -> Kept:
        """Returns what is kept after rows that continue the same prompt have changed places."""
        return jax.tree.map(lambda leaf: jnp.take(leaf, rows, axis=0), kept)

    def kept_axes(self, kept: Kept) -> list[tuple[str | None, ...]]:
        """Returns the logical names of the axes of each leaf that is kept, in the order of `jax.tree.leaves`."""
        return [("batch", *(None,) * (leaf.ndim - 1)) for leaf in jax.tree.leaves(kept)]

"""What all recurrent layers share: training, prompts and further tokens are one pass over a row."""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array, Bool, Float

from triarch.models.layers.context import StackContext
from triarch.models.layers.mixer import Mixer
from triarch.models.recurrent import documents

Kept = Any


class RecurrentMixer(Mixer):
    """Reads a row from left to right, from what is kept of the tokens before it."""

    def __call__(
        self, x: Float[Array, "batch length d_model"], context: StackContext
    ) -> Float[Array, "batch length d_model"]:
        return self._run(x, None, documents.continues(context.mask.query_segments), context)[0]

    def prefill(
        self, x: Float[Array, "batch length d_model"], context: StackContext, capacity: int
    ) -> tuple[Float[Array, "batch length d_model"], Kept]:
        return self._run(x, None, documents.continues(context.mask.query_segments), context)

    def extend(
        self, x: Float[Array, "batch count d_model"], kept: Kept, context: StackContext
    ) -> tuple[Float[Array, "batch count d_model"], Kept]:
        return self._run(x, kept, None, context)

    def _run(
        self, x: jax.Array, kept: Kept | None, continues: Bool[Array, "batch length"] | None, context: StackContext
    ) -> tuple[jax.Array, Kept]:
        """Returns what each token adds to the residual stream, and what is to be kept after the last one.

        Args:
          x: [batch, length, d_model].
          kept: of the tokens before the row; None: there are none.
          continues: whether each token belongs to the document of the one before it; None: all do.
          context: as for `__call__`.
        """
        raise NotImplementedError

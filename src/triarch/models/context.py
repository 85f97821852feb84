"""What the layers of a stack share when they run."""

from __future__ import annotations

import dataclasses

from jaxtyping import Array, Float, Int

from triarch.models.cache import Update
from triarch.models.dropout import DropoutKeys
from triarch.models.kernels import Attend
from triarch.models.masks import Mask
from triarch.models.positions import Angles
from triarch.models.rope import Rope
from triarch.models.scores import RelativeBias


@dataclasses.dataclass(frozen=True)
class StackContext:
    """What a stack's layers share: who sees whom, where tokens stand, and the encoder's output.

    Attributes:
      attend: the attention kernel.
      mask: of self-attention in global layers.
      angles: rotary angles for each rotation that occurs.
      bias: of self-attention's logits by distance, if positions are relative biases that all layers share.
      memory: the encoder's output, for blocks with cross-attention; None where its keys and values are in a cache.
      memory_mask: which of its tokens each decoder token sees.
      memory_query_angles: angles of the decoder's tokens in cross-attention; None: no rotation.
      memory_key_angles: angles of the encoder's tokens in cross-attention.
      update: how a cache is filled or read; None: there is none.
      dropout: what is left out in training; None: nothing is.
    """

    attend: Attend
    mask: Mask
    angles: dict[Rope, Angles]
    bias: RelativeBias | None = None
    memory: Float[Array, "batch source d_model"] | None = None
    memory_mask: Mask | None = None
    memory_query_angles: Angles | None = None
    memory_key_angles: Angles | None = None
    update: Update | None = None
    dropout: DropoutKeys | None = None

    def in_layer(self, number: int | Int[Array, ""] | None) -> StackContext:
        """Returns the context of one layer; its number matters only where something is left out."""
        if self.dropout is None:
            return self
        return dataclasses.replace(self, dropout=self.dropout.within(number))

"""What the layers of a stack share when they run."""

from __future__ import annotations

import dataclasses
import functools

import jax
from jaxtyping import Array, Bool, Float, Int

from triarch.models.attention.masks import Mask
from triarch.models.attention.positions import Angles
from triarch.models.attention.relative_bias import RelativeBias
from triarch.models.attention.rope import Rope
from triarch.models.kernels.kernel import Attend, dense_attention
from triarch.models.layers.dropout import DropoutKeys, DropoutPlace, dropped


@dataclasses.dataclass(frozen=True)
class Memory:
    """The encoder's output, as cross-attention sees it.

    Attributes:
      states: the output; None where a decoder extends what it has read: what it takes from them is kept by then.
      mask: which of them each decoder token sees.
      query_angles: rotation of the decoder's tokens; None: there is none.
      key_angles: rotation of the encoder's tokens.
    """

    states: Float[Array, "batch source d_model"] | None
    mask: Mask
    query_angles: Angles | None = None
    key_angles: Angles | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CacheColumns:
    """Where new tokens stand among those that are kept.

    Columns count the tokens of a row, padding on the left included, so that all rows of a batch stand at the same
    column whatever their lengths.

    Attributes:
      start: column of the first new token.
      real: which columns hold tokens, the new ones included.
    """

    start: Int[Array, ""]
    real: Bool[Array, "batch capacity"]


@dataclasses.dataclass(frozen=True)
class StackContext:
    """What a stack's layers share: who sees whom, where tokens stand, and the encoder's output.

    Attributes:
      attend: the attention kernel.
      mask: who may see whom within the stack, windows apart. A recurrence begins anew where its segments do.
      angles: rotary angles for each rotation that occurs.
      bias: of self-attention's logits by distance, if positions are relative biases that all layers share.
      memory: the encoder's output, where there is an encoder.
      columns: where tokens stand that extend what is kept; None for whole sequences.
      dropout: what is left out in training; None: nothing is.
      losses: where a part puts what training is to minimise besides, by name; None where nobody asks. Layers have one
        each.
    """

    attend: Attend
    mask: Mask
    angles: dict[Rope, Angles]
    bias: RelativeBias | None = None
    memory: Memory | None = None
    columns: CacheColumns | None = None
    dropout: DropoutKeys | None = None
    losses: dict[str, Array] | None = None

    def attending(self, place: DropoutPlace) -> Attend:
        """Returns the kernel; where weights of attention are left out, the dense formula."""
        if self.dropout is None or not self.dropout.rates.attention_weights:
            return self.attend
        return functools.partial(dense_attention, drop=lambda weights: dropped(weights, self.dropout, place))

    def in_layer(self, number: int | Int[Array, ""] | None) -> StackContext:
        """Returns the context of one layer; its number matters only where something is left out."""
        if self.dropout is None:
            return self
        assert number is not None
        return dataclasses.replace(self, dropout=self.dropout.within(number))

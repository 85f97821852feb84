"""What every way of writing keeps of its rows: how far they are, and which of them have stopped."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from triarch.decoding.stopping import Stops


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows in the making.

    Attributes:
      numbers: of each row among all prompts; -1 for a row that only fills the batch.
      step: new tokens so far.
      lengths: new tokens of each row, without its stop sequence.
      stopped: rows that need no more.
      texts: state of each row in `Stops.texts`.
    """

    numbers: Int[Array, " batch"]
    step: Int[Array, ""]
    lengths: Int[Array, " batch"]
    stopped: Bool[Array, " batch"]
    texts: Int[Array, " batch"]

    @classmethod
    def begin(cls, numbers: Int[Array, " batch"]) -> Rows:
        """Returns rows without new tokens."""
        nothing = jnp.zeros(len(numbers), jnp.int32)
        return cls(numbers, jnp.int32(0), nothing, numbers < 0, nothing)

    def unfinished(self, until: Int[Array, ""]) -> Bool[Array, ""]:
        """Returns whether any row needs a token, while there are fewer than `until`."""
        return (self.step < until) & ~jnp.all(self.stopped)

    def after(self, last: Int[Array, "batch longest"], stops: Stops) -> Rows:
        """Returns the rows one token further.

        Args:
          last: their last tokens, as `Stops.ended` takes them.
          stops: what ends a row.
        """
        hit, left_out, texts = stops.ended(last, self.texts)
        return dataclasses.replace(
            self,
            step=self.step + 1,
            lengths=jnp.where(self.stopped, self.lengths, self.step + 1 - left_out),
            stopped=self.stopped | hit,
            texts=texts,
        )

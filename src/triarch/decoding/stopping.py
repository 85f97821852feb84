"""What ends a row, on the device: sequences of tokens, and texts however they are spelled."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from triarch.decoding.prompts import row_bucket
from triarch.decoding.stop_texts import StopTexts

_ANY, _NONE = -1, -2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stops:
    """Stop sequences, ends aligned, and stop texts.

    Attributes:
      sequences: their tokens; `_ANY` before the first one.
      lengths: of each; 0 for a row that stands for no sequence.
      texts: None if there are none.
    """

    sequences: Int[Array, "stops longest"]
    lengths: Int[Array, " stops"]
    texts: StopTexts | None

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]], texts: StopTexts | None = None) -> Stops:
        """Takes sequences; their number and greatest length are rounded up, so that fewer programs are compiled."""
        count, longest = row_bucket(len(sequences)), row_bucket(max(map(len, sequences), default=1))
        tokens = np.full((count, longest), _NONE, np.int32)
        lengths = np.zeros(count, np.int32)
        for row, sequence in enumerate(sequences):
            tokens[row] = _ANY
            tokens[row, longest - len(sequence) :] = sequence
            lengths[row] = len(sequence)
        return cls(jnp.asarray(tokens), jnp.asarray(lengths), texts)

    @property
    def longest(self) -> int:
        """Tokens that `ended` looks at."""
        return self.sequences.shape[1]

    def empty(self, *shape: int) -> Int[Array, "... columns"]:
        """Returns room for `shape[-1]` tokens a row, after as many columns as `ended` looks back."""
        return jnp.full((*shape[:-1], self.longest + shape[-1]), _NONE, jnp.int32)

    def ended(
        self, last: Int[Array, "*rows longest"], states: Int[Array, "*rows"]
    ) -> tuple[Bool[Array, "*rows"], Int[Array, "*rows"], Int[Array, "*rows"]]:
        """Returns which rows end with their last token.

        Args:
          last: tokens of each row.
          states: of `texts` before the last token.

        Returns:
          Whether a row ends; the length of the longest stop sequence it ends with (0 if with none; a stop text stays);
          and the states after the last token.
        """
        same = (self.sequences == _ANY) | (last[..., None, :] == self.sequences)
        hits = jnp.all(same, axis=-1) & (self.lengths > 0)
        stopped, length = jnp.any(hits, axis=-1), jnp.max(jnp.where(hits, self.lengths, 0), axis=-1)
        if self.texts is not None:
            states, ends = self.texts.read(states, last[..., -1])
            stopped |= ends
        return stopped, length, states

"""Stop sequences on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

_ANY, _NONE = -1, -2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stops:
    """Stop sequences, ends aligned.

    Attributes:
      sequences: their tokens; `_ANY` before the first one.
      lengths: of each; 0 for a row that stands for no sequence.
    """

    sequences: Int[Array, "stops longest"]
    lengths: Int[Array, " stops"]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> Stops:
        """Takes sequences; their number and greatest length are rounded up, so that fewer programs are compiled."""
        count, longest = (_power_of_two(n) for n in (len(sequences), max(map(len, sequences), default=1)))
        tokens = np.full((count, longest), _NONE, np.int32)
        lengths = np.zeros(count, np.int32)
        for row, sequence in enumerate(sequences):
            tokens[row] = _ANY
            tokens[row, longest - len(sequence) :] = sequence
            lengths[row] = len(sequence)
        return cls(jnp.asarray(tokens), jnp.asarray(lengths))

    @property
    def longest(self) -> int:
        """Tokens that `matched` looks at."""
        return self.sequences.shape[1]

    def empty(self, rows: int, capacity: int) -> Int[Array, "rows columns"]:
        """Returns room for `capacity` tokens a row, after as many columns as `matched` looks back."""
        return jnp.full((rows, self.longest + capacity), _NONE, jnp.int32)

    def matched(self, last: Int[Array, "batch longest"]) -> tuple[Bool[Array, " batch"], Int[Array, " batch"]]:
        """Returns whether rows end with a stop sequence, and the length of the longest one they end with (or 0)."""
        same = (self.sequences == _ANY) | (last[:, None, :] == self.sequences)
        hits = jnp.all(same, axis=-1) & (self.lengths > 0)
        return jnp.any(hits, axis=-1), jnp.max(jnp.where(hits, self.lengths, 0), axis=-1)


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()

"""What ends a row, on the device: sequences of tokens, and texts however they are spelled; and which rows have ended.

Texts are found by Aho and Corasick's (1975) automaton over UTF-8 bytes, with a step for every token: in a state, which
is the longest beginning of a stop text that the bytes read so far end with, a token leads to another one, and a stop
text ends within the token or not. So a text counts wherever tokens begin and end, as in `StopStringCriteria` of Hugging
Face.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from triarch.decoding.prompts import row_bucket
from triarch.errors import UserError

_ANY, _NONE = -1, -2

# Each byte is a state, for which the table has a row of all ids.
_LONGEST = 511


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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StopTexts:
    """What each token does in each state; state 0 is that of nothing read.

    Attributes:
      following: the state after the token.
      ends: whether a stop text ends within it.
    """

    following: Int[Array, "states ids"]
    ends: Bool[Array, "states ids"]

    @classmethod
    def of(cls, texts: Sequence[str], token_texts: Sequence[bytes]) -> StopTexts:
        """Takes stop texts; the number of states is rounded up, so that fewer programs are compiled.

        Args:
          texts: none of them empty.
          token_texts: UTF-8 bytes that each id stands for.

        Raises:
          UserError: the texts are long, and with them the table of states.
        """
        length = sum(len(text.encode()) for text in texts)
        if length > _LONGEST:
            raise UserError(f"stop texts have {length:,} bytes together, at most {_LONGEST:,} are looked for")
        steps, accepts = _byte_automaton([text.encode() for text in texts])
        # Ids that stand for nothing read the last column.
        token_texts = [*token_texts, b""]
        padding = row_bucket(len(steps)) - len(steps)
        steps, accepts = np.pad(steps, ((0, padding), (0, 0))), np.pad(accepts, (0, padding))
        lengths = np.array([len(text) for text in token_texts])
        letters = np.zeros((len(token_texts), max(lengths, default=0)), np.uint8)
        for row, text in zip(letters, token_texts, strict=True):
            row[: len(text)] = np.frombuffer(text, np.uint8)
        states = np.repeat(np.arange(len(steps), dtype=np.int32)[:, None], len(token_texts), axis=1)
        ends = np.zeros(states.shape, bool)
        for place, column in enumerate(letters.T):
            longer = np.flatnonzero(lengths > place)
            states[:, longer] = steps[states[:, longer], column[longer]]
            ends[:, longer] |= accepts[states[:, longer]]
        return cls(jnp.asarray(states), jnp.asarray(ends))

    def read(
        self, states: Int[Array, "..."], tokens: Int[Array, "..."]
    ) -> tuple[Int[Array, "..."], Bool[Array, "..."]]:
        """Returns the states after tokens, and whether a stop text ends within them."""
        return self.following[states, tokens], self.ends[states, tokens]


def _byte_automaton(texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Returns int32[states, 256], the state after each byte, and bool[states], whether a text has just ended."""
    beginnings = sorted({text[:size] for text in texts for size in range(len(text) + 1)}, key=len)
    numbers = {beginning: number for number, beginning in enumerate(beginnings)}
    steps = np.zeros((len(beginnings), 256), np.int32)
    for number, beginning in enumerate(beginnings):
        for byte in set(b"".join(texts)):
            read = beginning + bytes([byte])
            steps[number, byte] = next(numbers[read[cut:]] for cut in range(len(read) + 1) if read[cut:] in numbers)
    accepts = np.array([any(beginning.endswith(text) for text in texts) for beginning in beginnings])
    return steps, accepts

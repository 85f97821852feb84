"""Stop texts on the device, however tokens spell them: an automaton over the bytes of tokens.

It is Aho and Corasick's (1975) over UTF-8 bytes, with a step for every token: in a state, which is the longest
beginning of a stop text that the bytes read so far end with, a token leads to another one, and a stop text ends within
the token or not. So a text counts wherever tokens begin and end, as in `StopStringCriteria` of Hugging Face.
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

# Each byte is a state, for which the table has a row of all ids.
_LONGEST = 511


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

"""How many bytes of text tokens stand for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class TokenBytes:
    """The UTF-8 bytes that each id of a vocabulary stands for, in a text and where it begins one.

    Attributes:
      own: uint16[vocabulary size]: bytes of each token, 0 for special tokens.
      first: uint16[vocabulary size]: bytes of each as the first token of a text, without a space that the tokenizer put
        before the text.
      space: the ids that stand for one space together, each of a byte of the symbol that SentencePiece writes for it;
        empty where the vocabulary has a token for the space.
    """

    own: np.ndarray
    first: np.ndarray
    space: tuple[int, ...] = ()

    @classmethod
    def fixed(cls, own: np.ndarray) -> TokenBytes:
        """Returns that of tokens which stand for the same bytes wherever they are."""
        own = own.astype(np.uint16)
        return cls(own, own)

    @classmethod
    def from_rows(cls, rows: np.ndarray) -> TokenBytes:
        """Returns what `rows` gave; of stores made before there were more, one row of bytes, or two."""
        own, first = rows[0], rows[min(1, len(rows) - 1)]
        order = rows[2] if len(rows) > 2 else np.zeros(0, np.uint16)
        return cls(own, first, tuple(int(index) for index in np.argsort(order, kind="stable")[np.sort(order) > 0]))

    def rows(self) -> np.ndarray:
        """Returns uint16[2 or 3, vocabulary size]: `own`, `first` and the place of each id in `space`, from 1 on."""
        if not self.space:
            return np.stack([self.own, self.first])
        order = np.zeros_like(self.own)
        order[list(self.space)] = np.arange(1, len(self.space) + 1)
        return np.stack([self.own, self.first, order])

    def less(self, ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Returns bool[ids]: which of consecutive tokens stand for one byte less than `own` says.

        Args:
          ids: of running text.
          starts: bool[ids]: which are the first of a text.
        """
        fewer = starts & (self.own != self.first)[ids]
        # No text begins with the rest of a character, so where one seems to the character was cut.
        begins = np.append(True, self.own[ids[:-1]] == 0)[: len(ids)]
        for cut in range(len(self.space)):
            rest = np.array(self.space[cut:])
            if len(rest) <= len(ids):
                found = (np.lib.stride_tricks.sliding_window_view(ids, len(rest)) == rest).all(axis=1)
                for place in np.flatnonzero(found & begins[: len(found)] if cut else found):
                    fewer[place + (cut == 0) : place + len(rest)] = True
            if 1 < cut <= len(ids) and (ids[-cut:] == self.space[:cut]).all():
                fewer[len(ids) - cut + 1 :] = True
        return fewer

    def count(self, ids: np.ndarray, starts: np.ndarray) -> int:
        """Returns how many bytes consecutive tokens stand for; the arguments are those of `less`."""
        return int(self.own[ids].sum(dtype=np.int64)) - int(self.less(ids, starts).sum())


def text_starts(example: Mapping[str, np.ndarray], eos: int) -> dict[str, np.ndarray]:
    """Returns which tokens of an example are the first of a text: bool[tokens] of each of its parts by name.

    Args:
      example: as a store's reader gives it. A text begins after the end of another, and where "starts", bool[tokens],
        says so; without that also where a segment begins, and at the first token unless a "previous_token" says
        otherwise.
      eos: what ends a text.
    """
    if "tokens" not in example:
        return {part: np.arange(len(example[part])) == 0 for part in ("inputs", "targets")}
    tokens, segments = example["tokens"], example.get("segment_ids")
    if segments is None:
        segments = np.ones(len(tokens), np.int32)
    # Behind an end another segment may go on with a text that began in another row.
    new = np.append(True, segments[1:] != segments[:-1])
    starts = np.append(False, tokens[:-1] == eos) & ~new
    if "starts" in example:
        return {"tokens": starts | example["starts"]}
    starts |= new & (segments > 0)
    starts[0] = "previous_token" not in example or int(example["previous_token"]) == eos
    if "num_inputs" in example:
        targets = np.flatnonzero(new & (segments > 0)) + example["num_inputs"]
        starts[targets[targets < len(tokens)]] = True
    return {"tokens": starts}

"""Windows of any length out of a store's, which lie one after another in the concatenated documents."""

from __future__ import annotations

import dataclasses

import numpy as np

from triarch.data.manifest import LAYOUTS
from triarch.data.store import SplitReader, TokenStore
from triarch.errors import UserError


@dataclasses.dataclass(frozen=True)
class JoinedWindows:
    """The non-overlapping windows of `length` consecutive tokens of a split.

    Attributes:
      reader: of a store in the layout "windows", whose examples follow one another without a gap.
      length: tokens a window, shorter or longer than the store's.
      count: how many.
    """

    reader: SplitReader
    length: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Returns {"tokens": int32[length]}."""
        start, stop = index * self.length, (index + 1) * self.length
        first, last = start // self.reader.window, -(-stop // self.reader.window)
        tokens = np.concatenate([self.reader[example]["tokens"] for example in range(first, last)])
        offset = start - first * self.reader.window
        return {"tokens": tokens[offset : offset + self.length]}


def join_windows(store: TokenStore, split: str, length: int) -> JoinedWindows:
    """Returns all windows of `length` tokens of a split.

    Raises:
      UserError: the store's examples are no consecutive text, there is no such split, or it is shorter than one window.
    """
    layout = store.manifest.layout
    if layout != LAYOUTS[0]:
        raise UserError(
            f"{store.path}: its layout is {layout!r}, but windows of {length:,} tokens are cut out of running text: "
            "prepare the store with --layout=windows"
        )
    reader = store.split(split)
    tokens = len(reader) * reader.window
    if tokens < length:
        raise UserError(
            f"{store.path}: split {split!r} holds {tokens:,} tokens ({len(reader):,} windows of {reader.window:,}), "
            f"not one window of {length:,}: prepare a longer text with --vocabulary_from={store.path}, or ask for less"
        )
    return JoinedWindows(reader, length, tokens // length)

"""Streams tokens as final text: whole characters only, and no part of a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

# What a decoder makes of bytes that are no character, or not yet one.
_UNFINISHED = "\ufffd"


class TextStream:
    """One continuation on its way to the terminal.

    A token need not be a whole character, and what a token reads like depends on those before it (a space, or none):
    so all tokens are decoded every time, behind the prompt's, and what has been said is left out. Some decoders write
    all bytes in a row as U+FFFD once one is no character: what would read otherwise with one more token is held back.
    """

    def __init__(
        self,
        decode: Decode,
        context: Sequence[int] = (),
        stops: Sequence[str] = (),
        probes: Sequence[int] = (),
    ):
        """A stream of nothing yet.

        Args:
          decode: from token ids to text.
          context: ids that the new ones follow.
          stops: texts that end a continuation; the first to appear does, and is left out.
          probes: tokens that may change the text before them: parts of characters.
        """
        self._decode = decode
        self._context = list(context)
        self._before = decode(self._context) if self._context else ""
        self._stops = tuple(stops)
        self._probes = tuple(probes)
        self._tokens: list[int] = []
        self._said = ""
        self.stopped = False

    def push(self, tokens: Sequence[int]) -> str:
        """Returns the text that is certain now that `tokens` have come."""
        self._tokens += tokens
        text = self._upto_stop(self._text())
        if not self.stopped:
            text = self._certain(text)
            text = text[: len(text) - self._held_back(text)]
        return self._say(text)

    def end(self) -> str:
        """Returns what was held back: no more tokens come."""
        text = self._upto_stop(self._text())
        new = self._say(text)
        self._said = text
        return new

    @property
    def text(self) -> str:
        """What has been returned so far."""
        return self._said

    @property
    def tokens(self) -> list[int]:
        """The tokens without those that stand for a stop text, or what comes after it, and nothing else."""
        kept = list(self._tokens)
        while self.stopped and kept and self._text_of(kept[:-1]).startswith(self._said):
            kept.pop()
        return kept

    def _text(self) -> str:
        return self._text_of(self._tokens)

    def _text_of(self, tokens: Sequence[int]) -> str:
        whole = self._decode([*self._context, *tokens])
        return whole[len(self._before) :] if whole.startswith(self._before) else self._decode(tokens)

    def _upto_stop(self, text: str) -> str:
        ends = [place for place in map(text.find, self._stops) if place >= 0]
        self.stopped = bool(ends)
        return text[: min(ends)] if ends else text

    def _certain(self, text: str) -> str:
        """Returns as much of `text` as stays whatever tokens come."""
        for probe in self._probes:
            text = text[: _shared(text, self._text_of([*self._tokens, probe]))]
        return text.rstrip(_UNFINISHED)

    def _held_back(self, text: str) -> int:
        """Returns how many last characters may be the beginning of a stop text."""
        starts = (stop[:size] for stop in self._stops for size in range(1, len(stop)))
        return max((len(start) for start in starts if text.endswith(start)), default=0)

    def _say(self, text: str) -> str:
        """Returns what is new in `text`; where a decoder took back what was said, all from there on."""
        if self._said.startswith(text):
            return ""
        new = text[_shared(text, self._said) :]
        self._said = text
        return new


def _shared(first: str, second: str) -> int:
    """Returns how many characters two texts have in common at their beginning."""
    shortest = min(len(first), len(second))
    return next((place for place in range(shortest) if first[place] != second[place]), shortest)

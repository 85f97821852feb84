"""Which rows a network must read so that every token of every continuation can be scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Continuation:
    """A continuation to be scored after its context, all token ids.

    Attributes:
      context: what the continuation follows.
      tokens: the continuation.
      words: number of the word each of its tokens belongs to, for `pseudo="word"`; None: every token is a word.
      before: what is read before the context, however much of that is cut off.
      after: what an encoder reads after the continuation; () for decoders.
    """

    context: Sequence[int]
    tokens: Sequence[int]
    words: Sequence[int] | None = None
    before: Sequence[int] = ()
    after: Sequence[int] = ()


@dataclasses.dataclass
class ScoreRow:
    """Tokens that are read, and what is scored there.

    Attributes:
      context: tokens of the context, in the encoder if there are two sides; () for an encoder alone.
      tokens: what follows: a continuation without its last token; of an encoder alone, all that it reads.
      owners: for everything that is scored, the request it belongs to.
      places: index of the state it is scored from: 0 is the one before `tokens`, but the first of an encoder alone.
      targets: its id.
    """

    context: tuple[int, ...]
    tokens: tuple[int, ...]
    owners: list[int] = dataclasses.field(default_factory=list)
    places: list[int] = dataclasses.field(default_factory=list)
    targets: list[int] = dataclasses.field(default_factory=list)


def cut_left(tokens: Sequence[int], room: int) -> Sequence[int]:
    """Returns the last `room` tokens at most."""
    return tokens[max(len(tokens) - max(room, 0), 0) :]


class _Rows:
    """Rows, each of which is there once, whoever needs it."""

    def __init__(self) -> None:
        self.by_tokens: dict[tuple, ScoreRow] = {}

    def add(self, context: tuple, tokens: tuple, owner: int, places: Sequence[int], targets: Sequence[int]) -> None:
        row = self.by_tokens.setdefault((context, tokens), ScoreRow(context, tokens))
        row.owners += [owner] * len(places)
        row.places += places
        row.targets += targets


def decoder_rows(requests: Sequence[Continuation], max_length: int, architecture: str) -> list[ScoreRow]:
    """Returns the rows of models with a decoder: continuations that differ in their last token share one."""
    rows = _Rows()
    for index, request in enumerate(requests):
        room = max_length if architecture == "encoder-decoder" else max_length + 1 - len(request.tokens)
        tokens = tuple(request.tokens)
        # Where there is room for hardly more than the continuation, it is cut as well.
        context = (*request.before, *cut_left(request.context, room - len(request.before)))[-room:]
        rows.add(context, tokens[:-1], index, range(len(tokens)), tokens)
    return list(rows.by_tokens.values())


def pseudo_rows(requests: Sequence[Continuation], max_length: int, mask: int, pseudo: str) -> list[ScoreRow]:
    """Returns the rows of an encoder: one for each token to be guessed, masked; see `scoring.score` for `pseudo`."""
    rows = _Rows()
    for index, request in enumerate(requests):
        room = max_length - len(request.before) - len(request.tokens) - len(request.after)
        context = [*request.before, *cut_left(request.context, room)]
        tokens = np.array([*context, *request.tokens, *request.after], np.int32)
        for place, hidden in enumerate(_hidden(request, pseudo)):
            masked = tokens.copy()
            masked[len(context) + hidden] = mask
            rows.add((), tuple(masked.tolist()), index, [len(context) + place], [int(request.tokens[place])])
    return list(rows.by_tokens.values())


def _hidden(request: Continuation, pseudo: str) -> Iterator[np.ndarray]:
    """Yields, for each token of a continuation, which of its tokens are masked when that one is guessed."""
    places = np.arange(len(request.tokens))
    words = places if request.words is None or pseudo == "token" else np.asarray(request.words)
    for place in places:
        is_hidden = places >= place if pseudo == "rest" else (places >= place) & (words == words[place])
        yield np.flatnonzero(is_hidden)

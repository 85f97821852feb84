"""Log-likelihoods of continuations given contexts, for all three architectures.

A decoder-only model reads context and continuation one after the other; an encoder-decoder reads the context in its
encoder, and its start token and the continuation in its decoder. An encoder has no likelihood: its continuations get
a pseudo-log-likelihood (arXiv 1910.14659), the sum over their tokens of each one's log-probability when it is masked
and everything else seen, what follows it included. `PSEUDO` names what may be masked with it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import jax
import numpy as np

from triarch.decoding.generator import decoder_start
from triarch.decoding.prompts import num_places
from triarch.decoding.score_batches import ScoreBatch, joined_batches, shared_batches
from triarch.decoding.score_programs import joined_scores, shared_scores
from triarch.decoding.score_rows import Continuation, decoder_rows, pseudo_rows
from triarch.decoding.score_shapes import of_fewer_shapes
from triarch.errors import UserError, nearest
from triarch.interchange import LoadedModel, require_tokens
from triarch.objectives import SpecialTokens

Pseudo = Literal["token", "word", "rest"]
PSEUDO = ("token", "word", "rest")


@dataclasses.dataclass(frozen=True)
class Score:
    """What a model makes of one continuation.

    Attributes:
      log_likelihood: in nats, summed over its tokens; for an encoder the pseudo-log-likelihood.
      is_greedy: whether each of its tokens is the likeliest where it stands.
    """

    log_likelihood: float
    is_greedy: bool


def score(
    model: LoadedModel,
    requests: Sequence[Continuation],
    *,
    max_length: int,
    start: Sequence[int] | None = None,
    bidirectional_context: bool = False,
    pseudo: Pseudo = "token",
    batch_size: int = 32,
    done: Callable[[int, Score], None] | None = None,
) -> list[Score]:
    """Scores continuations, longest first, in batches of few shapes; a context that several share is read once.

    Args:
      model: of any architecture.
      requests: contexts and continuations as token ids, complete: nothing is added but `start`.
      max_length: tokens that one side reads at most. A longer context is cut on its left, for a decoder-only model as
        far as needed to read the continuation without its last token; what stands before it (`before`) stays.
      start: what an encoder-decoder's decoder reads first; None for what `decoder_start` returns.
      bidirectional_context: whether a decoder-only model's context tokens see each other in both directions.
      pseudo: what an encoder finds masked besides the token to be guessed: nothing ("token"), the tokens of its word
        to its right ("word", arXiv 2305.10588), or all of the continuation to its right ("rest").
      batch_size: rows computed at once; the results do not depend on it, but for rounding.
      done: called with the index of a request and its score as soon as that is known.

    Raises:
      UserError: a continuation or, but for encoders, a context is empty; a continuation is longer than `max_length`;
        the model has fewer positions than that; an id is unknown; the vocabulary of an encoder has no mask token.
    """
    config = model.config
    require_tokens(model)
    if pseudo not in PSEUDO:
        raise UserError(f"no pseudo-likelihood {pseudo!r}{nearest(str(pseudo), PSEUDO)}")
    for name, value in (("max_length", max_length), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"{name}={value}: expected at least 1")
    places = num_places(config)
    if places is not None and max_length > places:
        raise UserError(f"max_length={max_length}: the model has positions for {places} tokens")
    _check(requests, config.architecture, config.vocab_size, max_length)
    if config.architecture == "encoder-only":
        rows = pseudo_rows(requests, max_length, _mask(model), pseudo)
        batches = list(joined_batches(rows, config, (), False, batch_size))
    else:
        start = tuple(decoder_start(model) if start is None else start)
        rows = decoder_rows(requests, max_length, config.architecture)
        batches = [
            *shared_batches(rows, config, start, bidirectional_context, batch_size),
            *joined_batches(rows, config, start, bidirectional_context, batch_size),
        ]
    return _run(model, requests, of_fewer_shapes(batches, config, jax.default_backend()), done)


def _run(
    model: LoadedModel,
    requests: Sequence[Continuation],
    batches: Sequence[ScoreBatch],
    done: Callable[[int, Score], None] | None,
) -> list[Score]:
    sums, greedy = np.zeros(len(requests)), np.ones(len(requests), bool)
    missing = np.array([len(request.tokens) for request in requests])
    for batch in batches:
        program = model.compiled(cast(Any, shared_scores) if batch.is_shared else joined_scores)
        log_probabilities, likeliest = program(batch.features)[:, : len(batch.owners)]
        np.add.at(sums, batch.owners, log_probabilities.astype(np.float64))
        np.logical_and.at(greedy, batch.owners, likeliest > 0)
        np.subtract.at(missing, batch.owners, 1)
        for index in np.unique(batch.owners):
            if done is not None and missing[index] == 0:
                done(int(index), Score(float(sums[index]), bool(greedy[index])))
    return [Score(float(total), bool(flag)) for total, flag in zip(sums, greedy, strict=True)]


def rolling(
    tokens: Sequence[int], prefix: int, max_length: int, context_length: int = 1
) -> list[tuple[list[int], list[int]]]:
    """Cuts a long text into contexts and continuations whose log-likelihoods sum to that of the text.

    Every token is predicted once, the first one from `prefix`. All windows but the first are as long as can be, so that
    what is predicted has at least `context_length` tokens before it; the last one reaches back as far as it can. These
    are the windows of lm-evaluation-harness.

    Args:
      tokens: of the text.
      prefix: stands before it.
      max_length: tokens that are read at once, 2 or more.
      context_length: tokens that are read again at least when a window moves on.
    """
    if not 1 <= context_length <= max_length:
        raise UserError(f"context_length={context_length}: expected 1 to max_length={max_length}")
    tokens = list(tokens)
    step = max_length - context_length + 1
    cuts = [0, *range(max_length, len(tokens), step), len(tokens)] if tokens else [0]
    before = [prefix, *tokens]
    windows = []
    for first, last in itertools.pairwise(cuts):
        # What predicts tokens[first:last] ends with tokens[last - 2], one place further in `before`.
        begin = max(0, last - max_length)
        windows.append((before[begin : first + 1], tokens[first:last]))
    return windows


def _mask(model: LoadedModel) -> int:
    special = SpecialTokens.from_manifest(model.vocabulary["special"]) if model.vocabulary else None
    if special is None or special.mask is None:
        raise UserError(f"{model.path}: pseudo-likelihood needs a mask token, and the model's vocabulary has none")
    return special.mask


def _check(requests: Sequence[Continuation], architecture: str, vocab_size: int, max_length: int) -> None:
    for number, request in enumerate(requests, 1):
        if not len(request.tokens):
            raise UserError(f"request {number}: the continuation is empty")
        if not len(request.before) + len(request.context) and architecture != "encoder-only":
            raise UserError(f"request {number}: the context is empty: give at least the token that begins a text")
        around = len(request.before) + len(request.after) if architecture == "encoder-only" else 0
        length = around + len(request.tokens)
        if length > max_length:
            raise UserError(
                f"request {number}: the continuation has {length} tokens, more than max_length={max_length}"
            )
        for token in (*request.before, *request.context, *request.tokens, *request.after):
            if not 0 <= token < vocab_size:
                raise UserError(f"request {number} holds the id {token}, the model knows 0 to {vocab_size - 1}")

"""Loss on texts longer than those a model was trained on (arXiv 2510.26622, figure 5)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np

from triarch.data.features import Example
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.evaluation import scoring as scorings
from triarch.evaluation.held_out import Loss, summarise
from triarch.evaluation.joined import join_windows
from triarch.evaluation.sampling import SampledWindows, Scored, sample_windows
from triarch.evaluation.scoring import Scoring
from triarch.evaluation.store_sums import check_finite, check_vocabulary
from triarch.evaluation.sums import Scorer, WindowSums
from triarch.fields import Seed, Size, check_options
from triarch.interchange import LoadedModel
from triarch.objectives import Objective, PrefixLM, SpecialTokens
from triarch.objectives.base import adds_special_tokens
from triarch.progress import Progress

# Stretches of positions whose losses are averaged for the loss by position.
_STRETCHES = 64


@dataclasses.dataclass(frozen=True)
class LengthOptions:
    """Which lengths, and on how much text.

    Attributes:
      lengths: total tokens, ascending; a model's trained length is usually the first.
      prefixes: tokens that are given, not scored; those not shorter than a length are left out there.
      split: of the store.
      max_windows: how many of the split's windows of the greatest length are drawn; every length is scored on their
        beginnings.
      batch_size: windows computed at once.
      pseudo_positions: tokens of a window that an encoder is scored on.
      seed: of the windows and tokens drawn.
    """

    lengths: Sequence[int]
    prefixes: Sequence[int]
    split: str = "validation"
    max_windows: Size | None = 32
    batch_size: Size = 4
    pseudo_positions: Size | None = 16
    seed: Seed = 0

    def check(self) -> None:
        """Raises UserError, naming the flag, for an option that is out of range."""
        for name, least in (("lengths", 2), ("prefixes", 1)):
            values = list(getattr(self, name))
            if not values or values[0] < least or values != sorted(set(values)):
                given = ",".join(map(str, values))
                raise UserError(f"--{name}={given}: expected numbers of tokens from {least} on, ascending")
        if self.prefixes[0] >= self.lengths[-1]:
            longest = f"of the greatest length, {self.lengths[-1]:,} tokens"
            raise UserError(f"--prefixes={self.prefixes[0]}: nothing is left to score {longest}")
        check_options(self)


@dataclasses.dataclass(frozen=True)
class LengthLoss(Loss):
    """The loss on what follows a prefix, up to a total length.

    Attributes:
      scoring: "paired", or "pseudo_likelihood" for an encoder, which has no prefix.
      prefix: tokens given; None for an encoder.
      length: total tokens, the prefix included.
    """

    scoring: str
    prefix: int | None
    length: int


@dataclasses.dataclass(frozen=True)
class PositionLoss:
    """The loss at a stretch of positions of the longest windows.

    Attributes:
      prefix: tokens given.
      first, last: positions of the stretch's tokens, from 0 on.
      nats_per_token: mean cross-entropy.
      standard_error: over documents, as that of `Loss`; None for one.
    """

    prefix: int
    first: int
    last: int
    nats_per_token: float
    standard_error: float | None


def extrapolate(
    model: LoadedModel, store: TokenStore, options: LengthOptions, *, show_progress: bool = False
) -> tuple[list[LengthLoss], list[PositionLoss]]:
    """Returns the losses by length, and by position.

    An encoder-decoder reads the prefix in its encoder and the rest in its decoder; a decoder-only model reads all in a
    row; both are scored on what follows the prefix. Neither sees ahead, so one pass over the longest windows holds all
    shorter ones; but for a rotary embedding whose base grows with the text each length is read by itself. An encoder is
    given windows of every length with one token masked at a time.

    Args:
      model: of any architecture.
      store: in the layout "windows", of the model's vocabulary; its windows may be shorter than the lengths asked for,
        for consecutive ones are joined.
      options: lengths, prefixes and how much text.
      show_progress: draw a bar with the time left on stderr, where that is a terminal.

    Raises:
      UserError: the store does not fit or holds too little text, the model has too few positions, or an
        option is out of range.
    """
    options.check()
    check_vocabulary(model, store)
    with Progress(show_progress) as progress:
        if model.config.architecture == "encoder-only":
            _check_places(model, options.lengths[-1])
            return list(_pseudo(model, store, options, progress)), []
        losses: list[LengthLoss] = []
        positions: list[PositionLoss] = []
        scaling = model.config.rope_scaling
        grows = scaling is not None and scaling.kind == "dynamic"
        for total in options.lengths if grows else options.lengths[-1:]:
            for prefix, scored in _by_token(model, store, options, total, progress):
                for length in [total] if grows else options.lengths:
                    if length > prefix:
                        loss = summarise(_between(scored, 0, length - prefix))
                        losses.append(LengthLoss(**vars(loss), scoring="paired", prefix=prefix, length=length))
                positions += _stretches(prefix, scored) if total == options.lengths[-1] else []
    return sorted(losses, key=lambda loss: (loss.prefix, loss.length)), positions


def _by_token(
    model: LoadedModel, store: TokenStore, options: LengthOptions, length: int, progress: Progress
) -> Iterator[tuple[int, Scored]]:
    """Yields each prefix and what was scored, sums [windows, tokens after the prefix], of windows of one length."""
    sampled = _windows(store, options)
    windows = [(number, {**example, "tokens": example["tokens"][:length]}) for number, example in sampled]
    scorer = Scorer.of(model, store, options.split, options.batch_size, progress)
    objective = _prefix_objective(model)
    prefixes = [prefix for prefix in options.prefixes if prefix < length]
    causal = model.config.architecture == "decoder-only" and not objective.bidirectional_prefix
    # What is given changes nothing for a model that sees everything before a token alike: one pass serves all.
    for prefix in prefixes[:1] if causal else prefixes:
        _check_places(model, length, prefix)
        one = _scoring(model, store, dataclasses.replace(objective, prefix_fraction=prefix / length), length)
        progress.start(f"{model.path.name} {length:,} tokens, prefix {prefix:,}", len(windows))
        sums = scorer.token_sums(windows, one)
        check_finite(sums.nats, model, store)
        for given in prefixes if causal else [prefix]:
            own = WindowSums(*(values[:, given - prefix : length - prefix] for values in sums))
            yield given, Scored(own, sampled.sample)


def _windows(store: TokenStore, options: LengthOptions) -> SampledWindows:
    longest = options.lengths[-1]
    windows = join_windows(store, options.split, longest)
    return sample_windows(windows, store, options.split, longest, options.max_windows, options.seed)


def _pseudo(model: LoadedModel, store: TokenStore, options: LengthOptions, progress: Progress) -> Iterator[LengthLoss]:
    special = SpecialTokens.from_manifest(store.manifest.vocabulary.special)
    longest = _windows(store, options)
    scorer = Scorer.of(model, store, options.split, options.batch_size, progress)
    framed = adds_special_tokens(_trained_objective(model))
    for length in options.lengths:
        # All but the first token are candidates, whatever the prefix of other models.
        objective = PrefixLM(prefix_fraction=1 / length)
        count = options.pseudo_positions
        one = scorings.pseudo_likelihood(objective, special, store.token_bytes, length, count, options.seed, framed)
        windows = [(number, _beginning(example, length)) for number, example in longest]
        progress.start(f"{model.path.name} {length:,} tokens", len(windows) * one.rows_per_window)
        sums = scorer.window_sums(windows, one)
        check_finite(sums.nats, model, store)
        loss = summarise(Scored(sums, longest.sample, one.share(sums.tokens)))
        yield LengthLoss(**vars(loss), scoring=one.name, prefix=None, length=length)


def _beginning(example: Example, length: int) -> Example:
    """Returns the first tokens of a window."""
    return {name: values[:length] if values.ndim else values for name, values in example.items()}


def _prefix_objective(model: LoadedModel) -> PrefixLM:
    # Text, as here, is cut in two; only pairs are given as they are.
    return cast(PrefixLM, scorings.paired_objective(_trained_objective(model)))


def _trained_objective(model: LoadedModel) -> Objective | None:
    fields = model.origin.objective
    return scorings.trained_objective(fields, str(model.path)) if fields else None


def _scoring(model: LoadedModel, store: TokenStore, objective: PrefixLM, length: int) -> Scoring:
    special = SpecialTokens.from_manifest(store.manifest.vocabulary.special)
    architecture = model.config.architecture
    return scorings.by_objective("paired", objective, architecture, special, store.token_bytes, length, seed=0)


def _between(scored: Scored, start: int, stop: int) -> Scored:
    """Returns the sums over the tokens from `start` on, up to but not `stop`."""
    return scored._replace(sums=WindowSums(*(values[:, start:stop].sum(axis=1) for values in scored.sums)))


def _stretches(prefix: int, scored: Scored) -> list[PositionLoss]:
    found = []
    edges = np.unique(np.linspace(0, scored.sums.nats.shape[1], _STRETCHES + 1).round().astype(int))
    for start, stop in itertools.pairwise(edges):
        loss = summarise(_between(scored, start, stop))
        first, last = int(prefix + start), int(prefix + stop - 1)
        found.append(PositionLoss(prefix, first, last, loss.nats_per_token, loss.standard_error))
    return found


def _check_places(model: LoadedModel, length: int, prefix: int = 0) -> None:
    """Raises UserError if a table of learned positions is too short for one of the model's sides."""
    config = model.config
    if not config.learned_positions:
        return
    places = config.learned_positions - config.learned_position_offset
    restarts = config.architecture == "encoder-decoder" and config.decoder_positions == "restart"
    needed = max(prefix, length - prefix) if restarts else length
    if needed > places:
        raise UserError(
            f"{model.path} has learned positions for {places:,} tokens a side, and a total of {length:,} needs "
            f"{needed:,}: ask for shorter --lengths"
        )

"""One model on one token store: what is scored there, and its sums."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from triarch.data.store import TokenStore
from triarch.errors import UserError, nearest
from triarch.evaluation import scoring as scorings
from triarch.evaluation.sampling import SampledWindows, Scored, sample_windows
from triarch.evaluation.scoring import Scoring
from triarch.evaluation.sums import Scorer
from triarch.fields import Seed, Size, check_options
from triarch.interchange import LoadedModel, require_tokens
from triarch.objectives import Objective, SpecialTokens, Supervised
from triarch.objectives.base import adds_special_tokens, require_layout
from triarch.progress import Progress


@dataclasses.dataclass(frozen=True)
class Options:
    """What is scored.

    Attributes:
      scoring: "paired" (an encoder's becomes "pseudo_likelihood"), "native", or both; None is both, native only where
        the model's objective is known and reads stores of that layout.
      split: of every store.
      max_windows: how many of the split's windows are scored; a random sample, the same for every model; None: all.
      batch_size: rows computed at once; it changes nothing but rounding.
      pseudo_positions: tokens an encoder is scored on in each window under "paired"; None scores all that others are.
      seed: of the windows and tokens drawn, and of random objectives.
    """

    scoring: Sequence[str] | None = None
    split: str = "validation"
    max_windows: Size | None = 256
    batch_size: Size = 32
    pseudo_positions: Size | None = 16
    seed: Seed = 0

    def check(self) -> None:
        """Raises UserError, naming the flag, for an option that is out of range."""
        if self.scoring is not None and not self.scoring:
            raise UserError(f"no scoring is asked for (one or more of: {', '.join(scorings.KINDS)})")
        for kind in self.scoring or ():
            if kind not in scorings.KINDS:
                raise UserError(f"no scoring {kind!r}{nearest(kind, scorings.KINDS)}")
        check_options(self)


def store_sums(
    model: LoadedModel,
    store: TokenStore,
    options: Options,
    label: str,
    progress: Progress,
) -> Iterator[tuple[str, Scored]]:
    """Yields each scoring's name and what it scored: a sample of the store's windows.

    Args:
      model: to evaluate.
      store: of the model's vocabulary.
      options: what is scored.
      label: what the progress bar calls the store.
      progress: where the bar is.

    Raises:
      UserError: the store's split is missing or empty, or its layout not one that the scoring reads.
    """
    require_tokens(model)
    windows = windows_to_score(store, options)
    scorer = Scorer.of(model, store, options.split, options.batch_size, progress)
    for names, one in _scorings(model, store, options):
        progress.start(f"{label} {', '.join(names)}", len(windows) * one.rows_per_window)
        sums = scorer.window_sums(windows, one)
        if not sums.tokens.sum():
            raise UserError(f"{store.path}: the windows of split {options.split!r} hold no token to score {names[0]}")
        check_finite(sums.nats, model, store)
        yield from ((name, Scored(sums, windows.sample, one.share(sums.tokens))) for name in names)


def windows_to_score(store: TokenStore, options: Options) -> SampledWindows:
    """Returns the windows of a store that are scored.

    Raises:
      UserError: there is no such split, or nothing in it.
    """
    reader = store.split(options.split)
    return sample_windows(reader, store, options.split, reader.window, options.max_windows, options.seed)


def check_vocabulary(model: LoadedModel, store: TokenStore) -> None:
    """Raises UserError unless a store's ids are the model's."""
    theirs = store.manifest.vocabulary
    if model.vocabulary is None:
        raise UserError(f"{model.path} does not say which vocabulary it was trained on, so {store.path} may not fit it")
    ours = model.vocabulary
    if ours["fingerprint"] != theirs.fingerprint:
        raise UserError(
            f"{store.path} was made with another vocabulary than {model.path}: {theirs.kind}, {theirs.size} ids, "
            f"{theirs.fingerprint[:12]} instead of {ours['kind']}, {ours['size']} ids, {ours['fingerprint'][:12]}"
        )
    if theirs.size > model.config.vocab_size:
        raise UserError(f"{store.path} has {theirs.size} ids, {model.path} only {model.config.vocab_size}")


def check_finite(numbers: np.ndarray, model: LoadedModel, store: TokenStore) -> None:
    """Raises UserError if a model gave what is no number."""
    if not np.isfinite(numbers).all():
        raise UserError(f"{model.path}: what it makes of {store.path} is not finite: its parameters have diverged")


def _scorings(model: LoadedModel, store: TokenStore, options: Options) -> Iterator[tuple[list[str], Scoring]]:
    """Yields scorings with the names that their results go by: one that is both paired and native is computed once."""
    architecture, manifest = model.config.architecture, store.manifest
    special = SpecialTokens.from_manifest(manifest.vocabulary.special)
    native = _native(model, manifest.lengths, needed=scorings.NATIVE in (options.scoring or ()))
    paired = scorings.paired_objective(native, manifest.lengths)
    token_bytes, window, seed = store.token_bytes, manifest.window, options.seed
    wanted: dict[Objective, list[str]] = {}
    for kind in _kinds(options, native, manifest.layout):
        objective = paired if kind == scorings.PAIRED else native
        assert objective is not None  # `_native` was told that it is needed.
        require_layout(objective, manifest.layout, str(store.path), manifest.lengths, manifest.gap)
        if kind == scorings.PAIRED and architecture == "encoder-only":
            count = options.pseudo_positions
            one = scorings.pseudo_likelihood(
                paired, special, token_bytes, window, count, seed, adds_special_tokens(native)
            )
            yield [scorings.PSEUDO_LIKELIHOOD], one
        else:
            wanted.setdefault(objective, []).append(kind)
    for objective, names in wanted.items():
        yield names, scorings.by_objective(names[0], objective, architecture, special, token_bytes, window, seed)


def _kinds(options: Options, native: Objective | None, layout: str) -> Sequence[str]:
    if options.scoring is not None:
        return options.scoring
    return scorings.KINDS if native is not None and layout in native.layouts else (scorings.PAIRED,)


def _native(model: LoadedModel, lengths: Mapping[str, int] | None, needed: bool) -> Objective | None:
    fields = model.origin.objective
    if not fields and not needed:
        return None
    native = scorings.trained_objective(fields, str(model.path))
    if isinstance(native, Supervised) and lengths is not None:
        # Tuned on pairs of other lengths, it reads these as well.
        return dataclasses.replace(native, inputs_length=lengths["inputs"], targets_length=lengths["targets"])
    return native

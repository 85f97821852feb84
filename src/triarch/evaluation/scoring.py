"""Which tokens of an example are scored, and what each architecture sees when it scores them.

A comparison of architectures needs the same target tokens after the same context; a model is also judged by what it was
trained to do. Hence two scorings, and a third for models that cannot take part in the first:

- "paired": the second half of every window given the first (arXiv 2510.26622, section 4), of every document where
  documents are packed side by side; the targets given the inputs where examples are pairs. An encoder-decoder reads
  what is given in its encoder, a decoder-only model reads everything and is scored on the rest.
- "pseudo_likelihood": what "paired" becomes for an encoder (arXiv 1910.14659): the same tokens are masked one at a
  time, all others of the example visible. It sees what follows, so it is not comparable with "paired".
- "native": the objective the model was trained with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from triarch.errors import UserError
from triarch.objectives import Mixture, Objective, PrefixLM, SpecialTokens, Supervised, documents, objective_from
from triarch.objectives.base import Features
from triarch.objectives.token_objective import TokenObjective

Example = Mapping[str, np.ndarray]

PAIRED, PSEUDO_LIKELIHOOD, NATIVE = "paired", "pseudo_likelihood", "native"
KINDS = (PAIRED, NATIVE)
# Version of each measure, and of the draw of windows: raised by hand with every change of code that changes a loss by
# more than rounding, or its error, so that a study evaluates again what the older code evaluated.
MEASURES = {PAIRED: 1, NATIVE: 1, PSEUDO_LIKELIHOOD: 2, "sample": 2}

# Wide rows are padded to a multiple of this, so that their number of positions has a divisor to cut them by.
_WIDTH_STEP = 16


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How an example of a store becomes rows of a batch.

    Attributes:
      name: "paired", "pseudo_likelihood" or "native".
      rows_per_window: rows that an example gives at most.
      rows: from an example, as a store's reader gives it (of a window of running text also "previous_token", the one
        before it), and its index in its split to the rows: the model's inputs,
        `scored_positions`, `scored_targets` (int32), `scored_weights` (float32) and `scored_first` (bool: whether
        a target is the first token of a text), [targets] each. Targets that are drawn stand for all that could be
        scored in their example: their weights come to as many.
      drawn: targets that are drawn in an example at most; None where all are scored.
    """

    name: str
    rows_per_window: int
    rows: Callable[[Example, int], list[Features]]
    drawn: int | None = None

    def share(self, targets: np.ndarray) -> np.ndarray:
        """Returns float64[windows]: of the `targets` that could be scored in each window, how many are."""
        return np.ones(len(targets)) if self.drawn is None else np.minimum(1, self.drawn / np.maximum(targets, 1))


def trained_objective(fields: Mapping[str, Any] | None, model: str) -> Objective:
    """Returns the objective that a run or export names as {"class": name, field: value, ...}.

    Args:
      fields: from the run or export.
      model: where they come from, for the message.

    Raises:
      UserError: it names none, or one that is unknown.
    """
    if fields is None:
        raise UserError(f"{model} does not say which objective it was trained with, which native scoring needs")
    return objective_from(fields, model)


def paired_objective(trained: Objective | None, lengths: Mapping[str, int] | None = None) -> PrefixLM | Supervised:
    """Returns the objective of paired scoring: what is given is seen as it was in training.

    Args:
      trained: the model's own objective, None if unknown.
      lengths: of a store of pairs, how many tokens "inputs" and "targets" have at most; None for text, which is cut in
        the middle.
    """
    parts = trained.objectives if isinstance(trained, Mixture) else (trained,)
    both_ways = any(getattr(part, "bidirectional_prefix", False) for part in parts)
    if lengths is not None:
        return Supervised(lengths["inputs"], lengths["targets"], both_ways)
    prefix = next((part for part in parts if isinstance(part, PrefixLM)), PrefixLM(bidirectional_prefix=both_ways))
    # The same tokens for every model: an end-of-document token would be one more target.
    return dataclasses.replace(prefix, prefix_fraction=0.5, split="fixed", append_eos=False)


def by_objective(
    name: str, objective: Objective, architecture: str, special: SpecialTokens, vocab_size: int, window: int, seed: int
) -> Scoring:
    """Scores what an objective scores; random choices come from (seed, window index) only.

    Raises:
      UserError: the objective predicts no tokens, or makes no sense for the architecture.
    """
    if not isinstance(objective, TokenObjective):
        raise UserError(f"objective {objective.name} predicts no tokens: there is no loss of texts to evaluate")
    bound = objective.bind(architecture, special, vocab_size, window)
    transform, width = bound.features, _width(bound.num_scored)
    side = "encoder" if architecture == "encoder-only" else "decoder"

    def rows(example: Example, index: int) -> list[Features]:
        features = transform(example, np.random.default_rng([seed, index]))
        begins = window_begins = _begins(example, special.eos)
        if "encoder_input_tokens" in features and side == "decoder":
            begins = _ended(features, special.eos) and not getattr(objective, "append_eos", False)
        targets = features.pop(f"{side}_target_tokens")
        weights = features.pop(f"{side}_loss_weights")
        first = _first_tokens(targets, features.get(f"{side}_segment_ids"), special.eos, begins)
        # Where there is one side, what is cut up stands before its spans.
        cut_up = features.get("encoder_input_tokens", targets)
        _tell_spans(first, targets, cut_up, special, window_begins)
        scored = np.flatnonzero(weights)
        padding = (0, width - len(scored))
        return [
            features
            | {
                "scored_positions": np.pad(scored, padding).astype(np.int32),
                "scored_targets": np.pad(targets[scored], padding),
                "scored_weights": np.pad(weights[scored], padding),
                "scored_first": np.pad(first[scored], padding),
            }
        ]

    return Scoring(name, 1, rows)


def pseudo_likelihood(
    objective: PrefixLM | Supervised,
    special: SpecialTokens,
    vocab_size: int,
    window: int,
    positions: int | None,
    seed: int,
    add_special_tokens: bool = False,
) -> Scoring:
    """Scores the tokens that paired scoring scores, each masked alone.

    Args:
      objective: of paired scoring.
      special: of the vocabulary; its mask is needed.
      vocab_size: ids of the vocabulary.
      window: tokens of an example.
      positions: tokens of each example to score, 1 or more, drawn without replacement; None scores all.
      seed: of the draw; an example's draw depends on (seed, its index) only.
      add_special_tokens: whether rows are those of `MaskedLM.add_special_tokens`: then end tokens are not scored.

    Raises:
      UserError: the vocabulary has no mask token, or no start token that is asked for.
    """
    if special.mask is None:
        raise UserError("pseudo-likelihood needs a mask token, and the store's vocabulary has none")
    # A decoder reads the example as the encoder will, and its weights say which tokens are scored.
    bound = objective.bind("decoder-only", special, vocab_size, window)
    transform, most = bound.features, bound.num_scored
    if add_special_tokens:
        documents.require_frame(special, "MaskedLM.add_special_tokens")
    count = most if positions is None else min(positions, most)

    def rows(example: Example, index: int) -> list[Features]:
        rng = np.random.default_rng([seed, index])
        laid = transform(example, rng)
        is_scored = laid["decoder_loss_weights"] > 0
        if add_special_tokens:
            is_scored &= laid["decoder_target_tokens"] != special.eos
        candidates = np.flatnonzero(is_scored)
        chosen = np.sort(rng.permutation(len(candidates))[:count])
        targets, segments = laid["decoder_target_tokens"], laid.get("decoder_segment_ids")
        first = _first_tokens(targets, segments, special.eos, _begins(example, special.eos))
        places = candidates[chosen]
        if not len(places):
            return []
        weight = len(candidates) / len(places)
        tokens, features, moved = _as_encoder_reads(laid, special if add_special_tokens else None)
        return [
            {
                **features,
                "encoder_input_tokens": _masked(tokens, moved[place], special.mask),
                "scored_positions": moved[place, None].astype(np.int32),
                "scored_targets": targets[place, None],
                "scored_weights": np.array([weight], np.float32),
                "scored_first": first[place, None],
            }
            for place in places
        ]

    return Scoring(PSEUDO_LIKELIHOOD, count, rows, count)


def _as_encoder_reads(laid: Features, frame: SpecialTokens | None) -> tuple[np.ndarray, Features, np.ndarray]:
    """Returns what an encoder reads of an example laid out for a decoder, each document framed unless `frame` is None.

    These are its tokens, its other features, and where each of the decoder's tokens stands.
    """
    tokens, places = laid["decoder_target_tokens"], np.arange(len(laid["decoder_target_tokens"]))
    # Without segment ids all is one text, which ends with the last target.
    one_text = (places <= np.flatnonzero(laid["decoder_loss_weights"])[-1]).astype(np.int32)
    segments = laid.get("decoder_segment_ids", one_text)
    if frame is not None:
        tokens, segments, places = documents.framed(tokens, segments, frame, len(tokens) + documents.FRAME)
    positions = documents.features("encoder", segments) if "decoder_positions" in laid else {}
    return tokens, {"encoder_segment_ids": segments, **positions}, places


def _masked(tokens: np.ndarray, place: int, mask: int) -> np.ndarray:
    masked = tokens.copy()
    masked[place] = mask
    return masked


def _first_tokens(targets: np.ndarray, segments: np.ndarray | None, eos: int, begins: bool) -> np.ndarray:
    """Returns bool[targets]: which tokens are the first of a text, `begins` of the very first."""
    first = np.append(begins, targets[:-1] == eos)
    if segments is not None:
        first[1:] |= segments[1:] != segments[:-1]
    return first


def _tell_spans(
    first: np.ndarray, targets: np.ndarray, cut_up: np.ndarray, special: SpecialTokens, begins: bool
) -> None:
    """Sets in `first` whether each span's first token is the first of a text: of what its sentinel stands behind.

    Args:
      first: bool[targets], changed in place.
      targets: int32[targets]: spans, each after its sentinel.
      cut_up: int32[inputs]: the text with sentinels where the spans were.
      special: of the vocabulary.
      begins: whether the window's first token is the first of a text.
    """
    text = cut_up[~np.isin(cut_up, list(special.modes.values()))]
    # The token before each; that before the first one is not known but by `begins`.
    before = dict(reversed([*zip(text.tolist(), [special.eos if begins else -1, *text[:-1].tolist()], strict=True)]))
    for place in np.flatnonzero(np.isin(targets[:-1], special.sentinels)):
        first[place + 1] = before.get(int(targets[place])) == special.eos


def _begins(example: Example, eos: int) -> bool:
    """Returns whether an example's first token is the first of a text."""
    return "previous_token" not in example or int(example["previous_token"]) == eos


def _ended(features: Features, eos: int) -> bool:
    """Returns whether what the encoder reads is the end of a text."""
    tokens = features["encoder_input_tokens"]
    real = features.get("encoder_segment_ids", np.ones(len(tokens))) > 0
    return bool(real.any() and tokens[real][-1] == eos)


def _width(num_scored: int) -> int:
    if num_scored <= _WIDTH_STEP:
        return num_scored
    return -(-num_scored // _WIDTH_STEP) * _WIDTH_STEP

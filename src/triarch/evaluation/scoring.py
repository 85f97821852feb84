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

from triarch.data.features import Example, Features
from triarch.data.manifest import MOST_IDS
from triarch.data.token_bytes import TokenBytes, text_starts
from triarch.errors import UserError
from triarch.objectives import (
    Distill,
    Mixture,
    Objective,
    PrefixLM,
    SpecialTokens,
    Supervised,
    documents,
    objective_from,
)
from triarch.objectives.token_objective import TokenObjective

PAIRED, PSEUDO_LIKELIHOOD, NATIVE = "paired", "pseudo_likelihood", "native"
KINDS = (PAIRED, NATIVE)
# Version of each measure, and of the draw of windows: raised by hand with every change of code that changes a loss by
# more than rounding, or its error, so that a study evaluates again what the older code evaluated.
MEASURES = {PAIRED: 1, NATIVE: 1, PSEUDO_LIKELIHOOD: 2, "sample": 2}

# Added to the ids of tokens that are to be found again: above every id.
_MARK = np.int32(MOST_IDS)
# Wide rows are padded to a multiple of this, so that their number of positions has a divisor to cut them by.
_WIDTH_STEP = 16


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How an example of a store becomes rows of a batch.

    Attributes:
      name: "paired", "pseudo_likelihood" or "native".
      rows_per_window: rows that an example gives at most.
      rows: from an example, as a store's reader gives it, with what `text_starts` reads beside, and its index in its
        split to the rows: the model's inputs,
        `scored_positions`, `scored_targets` (int32), `scored_weights` and `scored_bytes` (float32, what each target
        stands for), [targets] each. Targets that are drawn stand for all that could be scored in their example: their
        weights come to as many.
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
    trained = trained.objective if isinstance(trained, Distill) else trained
    parts: Any = trained.objectives if isinstance(trained, Mixture) else (trained,)
    both_ways = any(getattr(part, "bidirectional_prefix", False) for part in parts)
    if lengths is not None:
        return Supervised(lengths["inputs"], lengths["targets"], both_ways)
    prefix = next((part for part in parts if isinstance(part, PrefixLM)), PrefixLM(bidirectional_prefix=both_ways))
    # The same tokens for every model: an end-of-document token would be one more target.
    return dataclasses.replace(prefix, prefix_fraction=0.5, split="fixed", append_eos=False)


def by_objective(
    name: str,
    objective: Objective,
    architecture: str,
    special: SpecialTokens,
    token_bytes: TokenBytes,
    window: int,
    seed: int,
) -> Scoring:
    """Scores what an objective scores; random choices come from (seed, window index) only.

    Raises:
      UserError: the objective predicts no tokens, or makes no sense for the architecture.
    """
    if not isinstance(objective, TokenObjective):
        raise UserError(f"objective {objective.name} predicts no tokens: there is no loss of texts to evaluate")
    bound = objective.bind(architecture, special, len(token_bytes.own), window)
    transform, width = bound.features, _width(bound.num_scored)
    side = "encoder" if architecture == "encoder-only" else "decoder"

    def rows(example: Example, index: int) -> list[Features]:
        features = transform(example, np.random.default_rng([seed, index]))
        targets = features.pop(f"{side}_target_tokens")
        weights = features.pop(f"{side}_loss_weights")

        def marked_targets(marked: Example) -> np.ndarray:
            return transform(marked, np.random.default_rng([seed, index]))[f"{side}_target_tokens"]

        num_bytes = _bytes_of(targets, example, token_bytes, special.eos, marked_targets)
        scored = np.flatnonzero(weights)
        padding = (0, width - len(scored))
        return [
            features
            | {
                "scored_positions": np.pad(scored, padding).astype(np.int32),
                "scored_targets": np.pad(targets[scored], padding),
                "scored_weights": np.pad(weights[scored], padding),
                "scored_bytes": np.pad(num_bytes[scored], padding),
            }
        ]

    return Scoring(name, 1, rows)


def pseudo_likelihood(
    objective: PrefixLM | Supervised,
    special: SpecialTokens,
    token_bytes: TokenBytes,
    window: int,
    positions: int | None,
    seed: int,
    add_special_tokens: bool = False,
) -> Scoring:
    """Scores the tokens that paired scoring scores, each masked alone.

    Args:
      objective: of paired scoring.
      special: of the vocabulary; its mask is needed.
      token_bytes: of the vocabulary.
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
    bound = objective.bind("decoder-only", special, len(token_bytes.own), window)
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
        targets = laid["decoder_target_tokens"]

        def marked_targets(marked: Example) -> np.ndarray:
            return transform(marked, np.random.default_rng([seed, index]))["decoder_target_tokens"]

        num_bytes = _bytes_of(targets, example, token_bytes, special.eos, marked_targets)
        places = candidates[chosen]
        if not len(places):
            return []
        weight = len(candidates) / len(places)
        tokens, features, moved = _as_encoder_reads(laid, special if add_special_tokens else None)
        assert special.mask is not None
        return [
            {
                **features,
                "encoder_input_tokens": _masked(tokens, moved[place], special.mask),
                "scored_positions": moved[place, None].astype(np.int32),
                "scored_targets": targets[place, None],
                "scored_weights": np.array([weight], np.float32),
                "scored_bytes": num_bytes[place, None],
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


def _bytes_of(
    targets: np.ndarray,
    example: Example,
    token_bytes: TokenBytes,
    eos: int,
    marked_targets: Callable[[Example], np.ndarray],
) -> np.ndarray:
    """Returns float32[targets]: the bytes that an example's targets stand for.

    What a token stands for may depend on those before it in the text, wherever an objective puts it. So those that
    stand for a byte less are marked in the example, and the marks are looked for in the targets.

    Args:
      targets: that an objective made of the example.
      example: as a store's reader gives it.
      token_bytes: of the vocabulary.
      eos: what ends a text.
      marked_targets: returns the targets of the example with marks, made by the same random choices.
    """
    less = {part: token_bytes.less(example[part], starts) for part, starts in text_starts(example, eos).items()}
    found = token_bytes.own[targets].astype(np.float32)
    if any(part.any() for part in less.values()):
        found -= marked_targets({**example, **{part: example[part] + _MARK * less[part] for part in less}}) >= _MARK
    return found


def _width(num_scored: int) -> int:
    if num_scored <= _WIDTH_STEP:
        return num_scored
    return -(-num_scored // _WIDTH_STEP) * _WIDTH_STEP

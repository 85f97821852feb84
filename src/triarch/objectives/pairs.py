"""Inputs and targets laid out for an architecture, as SeqIO's feature converters do.

An encoder-decoder reads the inputs in its encoder (`EncDecFeatureConverter`). A decoder-only model reads inputs and
targets one after the other, is scored on the targets only, and sees the inputs causally or, if asked, in both
directions (`PrefixLMFeatureConverter`). Several pairs may stand side by side in a row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from triarch.data.features import Features, Transform
from triarch.errors import UserError
from triarch.objectives import documents
from triarch.objectives.base import PairFunction, SpecialTokens, require_architecture

ARCHITECTURES = ("encoder-decoder", "decoder-only")


@dataclasses.dataclass(frozen=True)
class PairLengths:
    """The most tokens there are in inputs, in targets, and in both together."""

    inputs: int
    targets: int
    both: int

    def sides(self, objective: str, architecture: str) -> dict[str, int]:
        """Returns the tokens that each side of `architecture` reads.

        Raises:
          UserError: the architecture reads no pairs.
        """
        require_architecture(objective, architecture, ARCHITECTURES)
        if architecture == "decoder-only":
            return {"decoder": self.both}
        return {"encoder": self.inputs, "decoder": self.targets}


def pair_transform(
    pair: PairFunction, architecture: str, lengths: Mapping[str, int], special: SpecialTokens, bidirectional: bool
) -> Transform:
    """Returns the function from an example to the features of its inputs and targets.

    Args:
      pair: from tokens to inputs and targets.
      architecture: "encoder-decoder" or "decoder-only".
      lengths: of the sides; what is not filled is padding.
      special: of the vocabulary.
      bidirectional: whether a decoder-only model's inputs see each other in both directions.
    """

    def features(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
        tokens, segments = documents.tokens_and_segments(example)
        if segments is not None and segments.max() > 1:
            raise UserError("documents packed side by side cannot be made into inputs and targets of this objective")
        inputs, targets = pair(tokens[documents.is_token(tokens, segments)], rng)
        made = pair_features(inputs, targets, architecture, lengths, special, bidirectional)
        if segments is None:
            return made
        # Nothing comes after the last target.
        end = np.max(np.flatnonzero(made["decoder_loss_weights"]), initial=-1) + 1
        return made | documents.features("decoder", (np.arange(lengths["decoder"]) < end).astype(np.int32))

    return features


def pair_features(
    inputs: np.ndarray,
    targets: np.ndarray,
    architecture: str,
    lengths: Mapping[str, int],
    special: SpecialTokens,
    bidirectional: bool,
) -> Features:
    """Returns the features of inputs and targets, int32 of any lengths that fit; see `pair_transform`."""
    if architecture == "decoder-only":
        return _one_sided(inputs, targets, lengths["decoder"], special, bidirectional)
    return _two_sided(inputs, targets, lengths, special)


def _two_sided(inputs: np.ndarray, targets: np.ndarray, lengths: Mapping[str, int], special: SpecialTokens) -> Features:
    padded_targets = documents.padded(targets, lengths["decoder"], special.pad)
    return {
        "encoder_input_tokens": documents.padded(inputs, lengths["encoder"], special.pad),
        "encoder_segment_ids": (np.arange(lengths["encoder"]) < len(inputs)).astype(np.int32),
        "decoder_input_tokens": documents.shift_right(padded_targets, special.bos),
        "decoder_target_tokens": padded_targets,
        "decoder_loss_weights": (np.arange(lengths["decoder"]) < len(targets)).astype(np.float32),
    }


def _one_sided(
    inputs: np.ndarray, targets: np.ndarray, length: int, special: SpecialTokens, bidirectional: bool
) -> Features:
    tokens = documents.padded(np.concatenate([inputs, targets]), length, special.pad)
    position = np.arange(length)
    there = position < len(inputs) + len(targets)
    features = {
        "decoder_input_tokens": documents.shift_right(tokens, special.bos),
        "decoder_target_tokens": tokens,
        "decoder_loss_weights": (there & (position >= len(inputs))).astype(np.float32),
    }
    if bidirectional:
        # What is read is shifted by one: at position len(inputs) stands the last input (SeqIO's convention).
        features["decoder_causal_attention"] = (there & (position <= len(inputs))).astype(np.int32)
    return features


def document_lengths(segments: np.ndarray) -> np.ndarray:
    """Returns int[documents]: how many tokens of each document there are, in order."""
    return np.bincount(segments[segments > 0])[1:]


def packed_features(
    tokens: np.ndarray,
    segments: np.ndarray,
    num_inputs: np.ndarray,
    architecture: str,
    lengths: Mapping[str, int],
    special: SpecialTokens,
    bidirectional: bool,
) -> Features:
    """Returns the features of documents each of which begins with its inputs.

    Args:
      tokens: int32[window].
      segments: int32[window]: the number of each token's document from 1 on, in order; 0 for padding, at the end.
      num_inputs: int[documents]: how many tokens of each document are inputs; the rest are its targets.
      architecture: "encoder-decoder" or "decoder-only".
      lengths: of the sides; what is not filled is padding.
      special: of the vocabulary.
      bidirectional: whether a decoder-only model's inputs see each other in both directions.
    """
    place = documents.positions(segments)
    first_target = np.concatenate([[0], num_inputs])[segments]
    is_target = (segments > 0) & (place >= first_target)
    if architecture == "decoder-only":
        features = _packed_decoder(tokens, segments, is_target, lengths["decoder"], special)
        if bidirectional:
            # What is read is shifted by one: at a document's first target stands its last input (SeqIO's convention).
            features["decoder_causal_attention"] = ((segments > 0) & (place <= first_target)).astype(np.int32)
        return features
    is_input = (segments > 0) & ~is_target
    return {
        "encoder_input_tokens": documents.padded(tokens[is_input], lengths["encoder"], special.pad),
        **documents.features("encoder", documents.padded(segments[is_input], lengths["encoder"])),
        **_packed_decoder(tokens[is_target], segments[is_target], is_target[is_target], lengths["decoder"], special),
    }


def _packed_decoder(
    tokens: np.ndarray, segments: np.ndarray, is_target: np.ndarray, length: int, special: SpecialTokens
) -> Features:
    targets = documents.padded(tokens, length, special.pad)
    segments = documents.padded(segments, length)
    return {
        "decoder_input_tokens": documents.shift_right(targets, special.bos, segments),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": documents.padded(is_target, length).astype(np.float32),
        **documents.features("decoder", segments),
    }

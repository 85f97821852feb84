"""Supervised learning: given targets are predicted from given inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from triarch.data.features import Features, Transform
from triarch.errors import UserError
from triarch.objectives import documents
from triarch.objectives.base import SpecialTokens
from triarch.objectives.pairs import PairLengths, packed_features, pair_features
from triarch.objectives.token_objective import TokenObjective


@dataclasses.dataclass(frozen=True)
class Supervised(TokenObjective):
    """Predicts the targets of examples that have inputs and targets of their own.

    RedLLM and DecLLM are so tuned on FLAN (arXiv 2510.26622: up to 2048 and 512 tokens, an example a row, loss on the
    targets only; "DecLLM + BiAttn" is `bidirectional_prefix`). Where a row holds several examples, none sees another.

    Attributes:
      inputs_length: the most tokens that inputs have, their end included, all inputs of a row together where examples
        are packed; as the store was prepared.
      targets_length: the most tokens that targets have, likewise.
      bidirectional_prefix: whether a decoder-only model's inputs see each other in both directions.
    """

    inputs_length: int = 2048
    targets_length: int = 512
    bidirectional_prefix: bool = False

    name = "supervised"
    layouts = ("pairs", "packed_pairs")

    @property
    def pair_lengths(self) -> dict[str, int]:
        """The lengths that a store of pairs must have been prepared with."""
        return {"inputs": self.inputs_length, "targets": self.targets_length}

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the tokens each side reads.

        Raises:
          UserError: the lengths are not those of the store's examples, of at most `window` tokens.
        """
        if min(self.inputs_length, self.targets_length) < 1 or self.inputs_length + self.targets_length != window:
            raise UserError(
                f"Supervised.inputs_length = {self.inputs_length} and targets_length = {self.targets_length}: expected "
                f"the lengths that the store was prepared with, {window} tokens together"
            )
        return PairLengths(self.inputs_length, self.targets_length, window).sides(self.name, architecture)

    def num_scored(self, architecture: str, window: int) -> int:
        """Returns how many tokens of an example carry loss, at most."""
        return self.targets_length

    def transform(self, architecture: str, special: SpecialTokens, vocab_size: int, window: int) -> Transform:
        """Returns the function from a pair or from packed pairs, see `Objective`, to features of `architecture`."""
        lengths = self.lengths(architecture, window)

        def features(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
            if "num_inputs" in example:
                tokens, segments = documents.tokens_and_segments(example)
                num_inputs = example["num_inputs"]
                assert segments is not None  # Several pairs in a row are told apart by them.
                self._check(int(num_inputs.sum()), int((segments > 0).sum() - num_inputs.sum()))
                return packed_features(
                    tokens, segments, num_inputs, architecture, lengths, special, self.bidirectional_prefix
                )
            if not {"inputs", "targets"} <= example.keys():
                raise UserError("objective supervised needs inputs and targets: prepare the store with --layout=pairs")
            inputs, targets = (np.asarray(example[part], np.int32) for part in ("inputs", "targets"))
            self._check(len(inputs), len(targets))
            return pair_features(inputs, targets, architecture, lengths, special, self.bidirectional_prefix)

        return features

    def _check(self, inputs: int, targets: int) -> None:
        for part, most, found in (("inputs", self.inputs_length, inputs), ("targets", self.targets_length, targets)):
            if found > most:
                raise UserError(f"Supervised.{part}_length = {most}: an example has {found} tokens")

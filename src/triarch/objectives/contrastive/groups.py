"""Objectives that read groups of texts, a query, its passage and hard negatives, and compare their vectors."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from triarch.data.features import Features, Transform
from triarch.errors import UserError
from triarch.fields import Count, Size, check
from triarch.models.pooling import Pooling
from triarch.objectives.base import PLAIN, LossOptions, SpecialTokens

if TYPE_CHECKING:  # Features are made without jax.
    import jax

    from triarch.models import MakeHead, ModelConfig, Transformer
    from triarch.models.layers.parts import Convention
    from triarch.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class TextGroups:
    """What objectives of groups of texts have in common; a subclass says what its loss is.

    Attributes:
      query_length: the most tokens that a query has without the special ones, as the store was prepared.
      passage_length: likewise passages and hard negatives.
      num_negatives: hard negatives of each query, as the store was prepared.
      similarity: "cosine" or "dot".
      pooling: of the last states: "mean", "cls" or "last".
      add_special_tokens: whether a text stands between start and end tokens ([CLS] and [SEP]); the encoder of an
        encoder-decoder reads the end alone.
      chunk: texts embedded at a time, the others waiting as vectors (gradient caching, arXiv 2101.06983), so that
        memory is that of so many texts; the gradient is the same. 0: all at once.
    """

    query_length: Size = 64
    passage_length: Size = 256
    num_negatives: Count = 0
    similarity: Literal["cosine", "dot"] = "cosine"
    pooling: Pooling = "mean"
    add_special_tokens: bool = True
    chunk: Count = 0

    layouts = ("groups",)
    measures = ("loss", "accuracy")

    @property
    def group_window(self) -> int:
        """Tokens of an example: of its query, its passage and its hard negatives."""
        return self.query_length + (1 + self.num_negatives) * self.passage_length

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the most tokens of a text that the side which reads it reads at once.

        Raises:
          UserError: a field is out of range, or the lengths are not those of the store.
        """
        check(self)
        if self.group_window != window:
            told = f"{type(self).__name__}.query_length = {self.query_length}, passage_length = {self.passage_length}"
            raise UserError(
                f"{told} and num_negatives = {self.num_negatives}: expected those that the store was prepared with, "
                f"{window} tokens together (query_length + (1 + num_negatives) * passage_length = {self.group_window})"
            )
        around = self.num_special(architecture)
        side = "decoder" if architecture == "decoder-only" else "encoder"
        return {side: max(self.query_length, self.passage_length) + around}

    def num_special(self, architecture: str) -> int:
        """Returns how many special tokens stand around a text."""
        return self.add_special_tokens * (1 if architecture == "encoder-decoder" else 2)

    def frame(self, architecture: str, special: SpecialTokens) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the ids before and after each text."""
        if not self.add_special_tokens:
            return (), ()
        return () if architecture == "encoder-decoder" else (special.bos,), (special.eos,)

    def check_batch(self, batch_size: int) -> None:
        """Raises UserError unless a batch of this size, or a part of one, can be embedded in chunks."""
        if self.chunk and (batch_size % self.chunk or self.chunk > batch_size):
            raise UserError(
                f"{type(self).__name__}.chunk = {self.chunk}: does not divide RunConfig.batch_size = {batch_size}"
            )

    def bind(
        self,
        architecture: str,
        special: SpecialTokens,
        vocab_size: int,
        window: int,
        options: LossOptions = PLAIN,
    ) -> BoundGroups:
        """Returns the objective for one architecture, vocabulary and window."""
        return BoundGroups(self, architecture, special, window)

    def batch_loss(
        self, model: Transformer, batch: Mapping[str, jax.Array], key: jax.Array | None
    ) -> tuple[jax.Array, Sums]:
        """Returns the summed loss of a batch's groups, and what it is made of; see `BoundObjective.loss`."""
        raise NotImplementedError

    def weight_of(self, queries: int) -> float:
        """Returns by what the summed loss of so many queries is divided."""
        return queries

    def own_features(self, example: Mapping[str, np.ndarray]) -> Features:
        """Returns further features of an example."""
        return {}


@dataclasses.dataclass(frozen=True)
class BoundGroups:
    """A `TextGroups` for one architecture and window; see `BoundObjective`."""

    objective: TextGroups
    architecture: str
    special: SpecialTokens
    window: int

    @functools.cached_property
    def lengths(self) -> dict[str, int]:
        """Tokens that the reading side reads of a text."""
        return self.objective.lengths(self.architecture, self.window)

    @property
    def num_scored(self) -> int:
        """Queries of an example."""
        return 1

    @property
    def make_head(self) -> MakeHead | None:
        """None: nothing is added to the network."""
        return None

    @functools.cached_property
    def features(self) -> Transform:
        """The numpy function from a group of texts to the features of its query and of its passages.

        `query_input_tokens` and `query_segment_ids`, int32[query length]; `passage_*`, int32[1 + negatives, passage
        length], the passage first; `query_hash`, int32[2], and `passage_hash`, int32[1 + negatives, 2], by which
        equal texts are known; and `label`, float32[negatives], where a teacher's margins are known.
        """
        own, special = self.objective, self.special
        _ = self.lengths
        frame = own.frame(self.architecture, special)
        longest = [own.query_length, *[own.passage_length] * (1 + own.num_negatives)]

        def features(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
            tokens = np.asarray(example["tokens"], np.int32)
            # Where only shapes matter, texts are as long as can be.
            segments = np.asarray(example.get("segment_ids", np.repeat(np.arange(1, len(longest) + 1), longest)))
            texts = [tokens[segments == number] for number in range(1, len(longest) + 1)]
            framed = [_framed(text, length, frame, special.pad) for text, length in zip(texts, longest, strict=True)]
            hashes = [_hash(text) for text in texts]
            return {
                "query_input_tokens": framed[0][0],
                "query_segment_ids": framed[0][1],
                "query_hash": hashes[0],
                "passage_input_tokens": np.stack([ids for ids, _ in framed[1:]]),
                "passage_segment_ids": np.stack([real for _, real in framed[1:]]),
                "passage_hash": np.stack(hashes[1:]),
                **own.own_features(example),
            }

        return features

    def flops(self, model: ModelConfig, convention: Convention) -> float:
        """Returns the model's FLOPs for one example, "paper" or "train": of its query and all its passages."""
        own = self.objective
        around = own.num_special(self.architecture)
        is_decoder = self.architecture == "decoder-only"

        def of_text(length: int) -> float:
            length += around
            return model.flops(0 if is_decoder else length, length if is_decoder else 0, convention, 0)

        return of_text(own.query_length) + (1 + own.num_negatives) * of_text(own.passage_length)

    def weight(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns by what the summed loss is divided."""
        import jax.numpy as jnp

        return jnp.float32(self.objective.weight_of(batch["query_input_tokens"].shape[0]))

    def loss(
        self, model: Transformer, batch: Mapping[str, jax.Array], key: jax.Array | None = None
    ) -> tuple[jax.Array, Sums]:
        """Returns the summed loss of the groups, and what it is made of."""
        return self.objective.batch_loss(model, batch, key)


def _framed(
    text: np.ndarray, length: int, frame: tuple[tuple[int, ...], tuple[int, ...]], pad: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a text's ids between what stands around it and padding, and where they are real, int32."""
    before, after = (np.array(part, np.int32) for part in frame)
    ids = np.concatenate([before, text, after])
    row = np.full(length + len(before) + len(after), pad, np.int32)
    row[: len(ids)] = ids
    return row, (np.arange(len(row)) < len(ids)).astype(np.int32)


def _hash(text: np.ndarray) -> np.ndarray:
    digest = hashlib.blake2b(np.ascontiguousarray(text, "<i4").tobytes(), digest_size=8).digest()
    return np.frombuffer(digest, "<i4").astype(np.int32)

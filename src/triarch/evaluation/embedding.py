"""Texts to vectors: tokenized, sorted by length into batches of few shapes, pooled on the device."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import jax
import numpy as np

from triarch.decoding.prompts import bucket, num_places, padded, row_bucket
from triarch.errors import UserError
from triarch.evaluation.few_shot.reading import Frame
from triarch.interchange import LoadedModel, StoredModel
from triarch.interchange.embedder import TRAINS_EMBEDDERS, Embedder
from triarch.interchange.loaded import Function
from triarch.models import Transformer
from triarch.models.pooling import Pooling, normalized, pooled
from triarch.models.shape import Side
from triarch.objectives import SpecialTokens, objective_from
from triarch.objectives.contrastive.groups import TextGroups
from triarch.tokenizers import Tokenizer

# Tokens whose mask says that pooling counts them; beside the names of SeqIO.
_COUNTED = "pooled_tokens"
_FINEST = 16


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Vectors of texts.

    Attributes:
      vectors: float32[texts, d_model].
      num_tokens: that were read.
      num_cut: texts of which only the beginning was read.
    """

    vectors: np.ndarray
    num_tokens: int
    num_cut: int


@dataclasses.dataclass(frozen=True)
class TextReader:
    """What is read of a text that is to be embedded.

    Attributes:
      tokenizer: of the model.
      before: ids before each text.
      prompt: ids after those.
      after: ids that end each text.
      max_length: of all of them together; None for no limit.
      counts_prompt: whether pooling counts what stands before the text itself.
    """

    tokenizer: Tokenizer
    before: tuple[int, ...]
    prompt: tuple[int, ...]
    after: tuple[int, ...]
    max_length: int | None
    counts_prompt: bool

    @classmethod
    def of(
        cls, model: LoadedModel, tokenizer: Tokenizer, embedder: Embedder, prompt: str, max_length: int | None = None
    ) -> TextReader:
        """Returns the reader of a model; see `embed`.

        Raises:
          UserError: the vocabulary is unknown, or `max_length` has no room for a text or is more than the model's.
        """
        before, after = frame_of(model, getattr(tokenizer, "frame", None))
        places = num_places(model.config)
        if max_length is not None and places is not None and max_length > places:
            raise UserError(f"max_length={max_length}: the model has positions for {places} tokens")
        known = [length for length in (max_length or embedder.max_length, places) if length is not None]
        most = min(known, default=None)
        put_before = tuple(tokenizer.encode(prompt).tolist()) if prompt else ()
        around = len(before) + len(put_before) + len(after)
        if most is not None and most <= around:
            raise UserError(f"max_length={most}: the prompt and what stands around texts take {around} tokens of it")
        return cls(tokenizer, before, put_before, after, most, embedder.counts_prompt or not prompt)

    def read(self, text: str, prompt: str) -> tuple[list[int], bool]:
        """Returns the ids that are read of a text, and whether it was cut."""
        # Together: a tokenizer may join what a prompt ends with and what the text begins with.
        ids = self.tokenizer.encode(prompt + text).tolist()
        room = len(ids) if self.max_length is None else self.max_length - len(self.before) - len(self.after)
        return [*self.before, *ids[:room], *self.after], len(ids) > room

    @property
    def num_uncounted(self) -> int:
        """How many ids at the beginning of a row pooling passes over."""
        return 0 if self.counts_prompt else len(self.before) + len(self.prompt)


def frame_of(
    model: LoadedModel | StoredModel, tokenizer_frame: tuple[Sequence[int], Sequence[int]] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the ids that stand before and after a text that is to be embedded.

    They are those of the model's training, or what an imported model's tokenizer puts around texts. A decoder's text
    has an end only where the tokenizer puts one, or where it was trained to embed texts (`Contrast`, `MarginMSE`).

    Raises:
      UserError: the vocabulary is unknown.
    """
    objective = None if model.origin.is_imported else model.origin.objective
    architecture = model.config.architecture
    if objective is not None and objective.get("class") in TRAINS_EMBEDDERS:
        of_groups = cast(TextGroups, objective_from(objective, str(model.path)))
        return of_groups.frame(architecture, SpecialTokens.from_manifest((model.vocabulary or {})["special"]))
    is_headless = model.origin.headless is not None
    if tokenizer_frame is not None and (model.origin.is_imported or is_headless):
        return tuple(tokenizer_frame[0]), tuple(tokenizer_frame[1])
    if is_headless and model.vocabulary is not None:
        special = SpecialTokens.from_manifest(model.vocabulary["special"])
        return () if architecture == "encoder-decoder" else (special.bos,), (special.eos,)
    frame = Frame.of(model, tokenizer_frame)
    return frame.before, frame.after if architecture != "decoder-only" else ()


def embed(
    model: LoadedModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    embedder: Embedder,
    *,
    prompt: str = "",
    max_length: int | None = None,
    batch_size: int = 32,
    empty_is_zero: bool = False,
    advance: Callable[[int], None] = lambda texts: None,
) -> Embedded:
    """Embeds texts, longest first; those of one batch have like lengths.

    Args:
      model: of any architecture; an encoder-decoder's encoder reads the texts.
      tokenizer: of the model.
      texts: not empty, unless what stands around a text is something to be read.
      embedder: pooling, normalisation, and how much of a text is read.
      prompt: put before each text.
      max_length: tokens read of a text at most, in place of the embedder's.
      batch_size: texts computed at once; the vectors do not depend on it, but for rounding.
      empty_is_zero: whether the vector of a text that has nothing to be read is zero, not an error.
      advance: called with how many more texts are done.

    Raises:
      UserError: a text has nothing to be read, or holds an id that the model does not know.
    """
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size}: expected at least 1")
    reader = TextReader.of(model, tokenizer, embedder, prompt, max_length)
    rows, num_cut = [], 0
    for number, text in enumerate(texts, 1):
        row, is_cut = reader.read(text, prompt)
        if not row and not empty_is_zero:
            raise UserError(f"text {number} is empty")
        if max(row, default=0) >= model.config.vocab_size:
            known = model.config.vocab_size - 1
            raise UserError(f"text {number} holds the id {max(row)}, the model knows 0 to {known}")
        rows.append(row)
        num_cut += is_cut
    vectors = np.zeros((len(rows), model.config.of_side(_side(model)).d_model), np.float32)
    program = model.compiled(_program(embedder.pooling, embedder.normalize))
    there = [index for index, row in enumerate(rows) if row]
    order = sorted(there, key=lambda index: len(rows[index]), reverse=True)
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        batch = _features(model, [rows[index] for index in chosen], reader)
        vectors[chosen] = program(batch)[: len(chosen)]
        advance(len(chosen))
    return Embedded(vectors, sum(map(len, rows)), num_cut)


def _features(model: LoadedModel, rows: Sequence[Sequence[int]], reader: TextReader) -> dict[str, np.ndarray]:
    side, places, longest = _side(model), num_places(model.config), max(map(len, rows))
    length = bucket(longest) if longest <= 2 * _FINEST else -(-longest // _FINEST) * _FINEST
    if places is not None:
        length = min(length, places)
    tokens, real = padded(rows, row_bucket(len(rows)), length, left=False)
    batch = {f"{side}_input_tokens": tokens, f"{side}_segment_ids": real}
    if reader.num_uncounted:
        batch[_COUNTED] = real * (np.arange(length) >= reader.num_uncounted)
    return batch


def _side(model: LoadedModel) -> Side:
    return "decoder" if model.config.architecture == "decoder-only" else "encoder"


@functools.cache
def _program(pooling: Pooling, normalize: bool) -> Function:
    """Returns the function from a batch to its vectors; the same one for the same settings, so that it is compiled
    once."""

    def vectors(model: Transformer, batch: Mapping[str, jax.Array]) -> jax.Array:
        side = "decoder" if model.config.architecture == "decoder-only" else "encoder"
        counted = batch.get(_COUNTED, batch[f"{side}_segment_ids"])
        found = pooled(model.text_states(batch), counted, pooling)
        return normalized(found) if normalize else found

    return vectors

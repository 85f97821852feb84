"""The documents of an example: which of them each token belongs to, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from triarch.data.features import Features
from triarch.errors import UserError
from triarch.objectives.base import SpecialTokens

# The most tokens that `framed` adds to a window, or to a packed row whose documents lie a token apart.
FRAME = 2


def tokens_and_segments(example: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns an example's tokens and segment ids, int32[window] each; None for a window that is one text."""
    segments = example.get("segment_ids")
    return np.asarray(example["tokens"], np.int32), None if segments is None else np.asarray(segments, np.int32)


def is_token(tokens: np.ndarray, segments: np.ndarray | None) -> np.ndarray:
    """Returns bool[window]: True where a token is no padding."""
    return np.ones(len(tokens), bool) if segments is None else segments > 0


class FramedDocuments(NamedTuple):
    """An example with the start and end tokens of its documents.

    Attributes:
      tokens: int32[length]: bos, text and eos of each document, then padding.
      segments: int32[length]: the number of each token's document, 0 for padding.
      places: int64[tokens]: where each token of the example stands, padding left out.
    """

    tokens: np.ndarray
    segments: np.ndarray
    places: np.ndarray


def framed(tokens: np.ndarray, segments: np.ndarray | None, special: SpecialTokens, length: int) -> FramedDocuments:
    """Returns an example as tokenizers with [CLS] and [SEP] lay it out: bos, text, eos for each document.

    A document that ends with eos, as all whole ones do, gets no other; a window of running text is one document.

    Raises:
      UserError: there are too many documents for `length` tokens.
    """
    segments = np.ones(len(tokens), np.int32) if segments is None else segments[segments > 0]
    tokens = tokens[: len(segments)]
    changes = segments[1:] != segments[:-1]
    starts, ends = np.append(True, changes)[: len(tokens)], np.append(changes, True)[-len(tokens) :]
    unended = ends & (tokens != special.eos)
    places = np.arange(len(tokens)) + np.cumsum(starts) + np.cumsum(unended) - unended
    used = len(tokens) + int(starts.sum() + unended.sum())
    if used > length:
        raise UserError(
            f"a row of {int(starts.sum())} documents has no room for their start tokens: prepare the store with --gap=1"
        )
    framed_tokens, framed_segments = np.full(length, special.pad, np.int32), np.zeros(length, np.int32)
    for where, values in (
        (places, tokens),
        (places[starts] - 1, special.bos),
        (places[unended] + 1, special.eos),
    ):
        framed_tokens[where] = values
    framed_segments[places] = segments
    framed_segments[places[starts] - 1] = segments[starts]
    framed_segments[places[unended] + 1] = segments[unended]
    return FramedDocuments(framed_tokens, framed_segments, places)


def require_frame(special: SpecialTokens, owner: str) -> None:
    """Raises UserError, naming the option, unless the vocabulary has a start token of its own."""
    if special.bos in (special.pad, special.eos):
        raise UserError(
            f"{owner} needs a start token such as [CLS], and the store's vocabulary has none: its documents are told "
            "apart by their end token"
        )


def shift_right(targets: np.ndarray, bos: int, segments: np.ndarray | None = None) -> np.ndarray:
    """Returns what a decoder reads to predict `targets`: before each document's first the start token."""
    shifted = np.empty(len(targets), np.int32)
    shifted[1:] = targets[:-1]
    shifted[:1] = bos
    if segments is not None:
        shifted[1:][segments[1:] != segments[:-1]] = bos
    return shifted


def features(side: str, segments: np.ndarray | None) -> Features:
    """Returns SeqIO's features of packed documents: `{side}_segment_ids` and `{side}_positions`; none for one text."""
    if segments is None:
        return {}
    return {f"{side}_segment_ids": segments, f"{side}_positions": positions(segments)}


def positions(segments: np.ndarray) -> np.ndarray:
    """Returns int32[window]: the place of each token in its document, 0 in padding."""
    index = np.arange(len(segments), dtype=np.int32)
    starts = np.concatenate([[True], segments[1:] != segments[:-1]])
    return np.where(segments > 0, index - np.maximum.accumulate(np.where(starts, index, 0)), 0).astype(np.int32)


def padded(values: np.ndarray, length: int, fill: int = 0) -> np.ndarray:
    """Returns int32[length]: `values`, then `fill`."""
    result = np.full(length, fill, np.int32)
    result[: len(values)] = values
    return result

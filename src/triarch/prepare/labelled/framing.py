"""Texts, or pairs of texts, as a model that classifies them reads them: with start, end and separators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from triarch.errors import UserError
from triarch.tokenizers import Tokenizer
from triarch.tokenizers.huggingface import HuggingFaceTokenizer


class FramedRow(NamedTuple):
    """A row's tokens.

    Attributes:
      tokens: int32[tokens].
      types: int32[tokens]: 0 for what belongs to the first text, 1 for what belongs to the second, as the tokenizer
        says.
      words: of each token the index of its word, for rows of words; -1 for what is of none.
      is_cut: whether there was more.
    """

    tokens: np.ndarray
    types: np.ndarray
    words: np.ndarray
    is_cut: bool


# A row's text, or its words; and its second text.
Text = str | Sequence[str]
Frame = Callable[[Sequence[tuple[Text, str | None]]], Iterator[FramedRow]]


def framing(tokenizer: Tokenizer, window: int) -> Frame:
    """Returns the function from rows to their tokens, of which there are at most `window`.

    A Hugging Face tokenizer frames texts itself, as transformers has it: the longer text of a pair is cut first.
    Others put the start token, where the vocabulary has one of its own, before all, and the end after each text.
    """
    if isinstance(tokenizer, HuggingFaceTokenizer):
        framer = tokenizer.framer(window)

        def by_library(rows: Sequence[tuple[Text, str | None]]) -> Iterator[FramedRow]:
            for encoding in framer(rows):
                words = [-1 if index is None else index for index in encoding.word_ids]
                yield FramedRow(*_arrays(encoding.ids, encoding.type_ids, words), bool(encoding.overflowing))

        return by_library
    start, end = map(list, ends(tokenizer))

    def by_ends(rows: Sequence[tuple[Text, str | None]]) -> Iterator[FramedRow]:
        for first, second in rows:
            if not isinstance(first, str):
                raise UserError("words with labels need a Hugging Face tokenizer: name a tokenizer.json")
            texts = [tokenizer.encode(text).tolist() for text in (first, second) if text is not None]
            kept = _longest_first(texts, window - len(start) - len(texts))
            ids, types = list(start), [0] * len(start)
            for number, text in enumerate(kept):
                ids += [*text, *end]
                types += [number] * (len(text) + len(end))
            yield FramedRow(*_arrays(ids, types, [-1] * len(ids)), kept != texts)

    return by_ends


def ends(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the ids that stand before a text, and those that stand after it."""
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return tokenizer.frame
    special = tokenizer.info.special
    start = () if special["bos"] in (special["pad"], special["eos"]) else (special["bos"],)
    return start, (special["eos"],)


def _arrays(*values: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, types, words = (np.array(one, np.int32) for one in values)
    return ids, types, words


def _longest_first(texts: list[list[int]], room: int) -> list[list[int]]:
    """Returns texts cut, the longer of two first, until they have room."""
    lengths = [len(text) for text in texts]
    while sum(lengths) > max(room, 0):
        # Of equally long ones the second.
        longest = max(range(len(lengths)), key=lambda index: (lengths[index], index))
        lengths[longest] = max(lengths[longest] - (sum(lengths) - max(room, 0) if len(lengths) == 1 else 1), 0)
    return [text[:length] for text, length in zip(texts, lengths, strict=True)]

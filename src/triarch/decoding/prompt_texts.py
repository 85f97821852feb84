"""Text of prompts to tokens and back, special tokens written as words."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from triarch.errors import UserError
from triarch.objectives import SpecialTokens
from triarch.tokenizers import Tokenizer

MASK_WORDS = ("[MASK]", "<mask>")
# UTF-8's bytes that begin a character of several.
_FIRST_OF_SEVERAL = 0xC2
_SPECIAL = re.compile(r"(\[MASK\]|<mask>|<extra_id_\d+>)")


def check_text(text: str, name: str) -> None:
    """Raises UserError for halves of characters, which no tokenizer takes."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(f"{name}: is not UTF-8 text")


def encode(text: str, tokenizer: Tokenizer, special: SpecialTokens) -> np.ndarray:
    """Returns a prompt's ids; in it "<extra_id_0>", ... are the sentinels, "[MASK]" and "<mask>" the mask.

    Raises:
      UserError: the vocabulary has no such sentinel, or no mask.
    """
    takes_space = getattr(tokenizer, "takes_space_before", lambda index: False)
    parts = _SPECIAL.split(text)
    known = [_special_id(part, special) for part in parts]
    ids: list[int] = []
    for part, own, following in zip(parts, known, [*known[1:], None], strict=True):
        if own is None:
            part = part.rstrip() if following and takes_space(following[0]) else part
            own = tokenizer.encode(part).tolist() if part else []
        ids += own
    return np.array(ids, np.int32)


def _special_id(part: str, special: SpecialTokens) -> list[int] | None:
    if not _SPECIAL.fullmatch(part):
        return None
    if part in MASK_WORDS:
        if special.mask is None:
            raise UserError(f"a prompt holds {part}, and the model's vocabulary has no mask")
        return [special.mask]
    number = int(part.strip("<>").rsplit("_", 1)[1])
    if number >= len(special.sentinels):
        raise UserError(f"a prompt holds {part}, and the model's vocabulary has {len(special.sentinels)} sentinels")
    return [special.sentinels[number]]


def decode(ids: Sequence[int], tokenizer: Tokenizer, special: SpecialTokens) -> str:
    """Returns text, sentinels written as in a prompt, other special tokens left out."""
    names = {index: f"<extra_id_{number}>" for number, index in enumerate(special.sentinels)}
    pieces, run = [], []
    for index in ids:
        if index in names:
            pieces += [tokenizer.decode(run), names[index]]
            run = []
        else:
            run.append(index)
    return "".join([*pieces, tokenizer.decode(run) if run else ""])


def token_texts(tokenizer: Tokenizer, special: SpecialTokens) -> list[bytes]:
    """Returns what each id stands for in `decode`'s texts."""
    texts = list(tokenizer.token_texts)
    for number, index in enumerate(special.sentinels):
        texts[index] = f"<extra_id_{number}>".encode()
    return texts


def unfinished(tokenizer: Tokenizer) -> list[int]:
    """Returns a token that is only the beginning of a character, if there is one."""
    texts = tokenizer.token_texts
    return [index for index, text in enumerate(texts) if len(text) == 1 and text[0] >= _FIRST_OF_SEVERAL][:1]


def check_stops(texts: Sequence[str], tokenizer: Tokenizer, name: str = "--stop") -> None:
    """Raises UserError for a stop text that is empty, or that the vocabulary cannot spell."""
    for text in texts:
        check_text(text, name)
        ids = tokenizer.encode(text).tolist()
        if not ids or tokenizer.decode(ids).strip() != text.strip():
            read = tokenizer.decode(ids)
            raise UserError(f"{name}={text!r}: not in the model's vocabulary, which reads it as {read!r}")

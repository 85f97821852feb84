"""Prompts of `triarch generate`: where they are read, and how text becomes tokens."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.objectives import SpecialTokens
    from triarch.tokenizers import Tokenizer

MASK_WORDS = ("[MASK]", "<mask>")
_SPECIAL = re.compile(r"(\[MASK\]|<mask>|<extra_id_\d+>)")
_FIELD = "prompt"
# UTF-8's bytes that begin a character of several.
_FIRST_OF_SEVERAL = 0xC2


def read_prompts(given: Sequence[str], file: Path | None) -> list[str]:
    """Returns the prompts given as arguments, or those of a file, or of standard input: one a line.

    A file whose name ends in .jsonl holds an object a line, its prompt under "prompt". Empty lines are passed over.

    Raises:
      UserError: there is no prompt, one is empty, or the file cannot be read.
    """
    if given and file is not None:
        raise UserError("--prompt and --prompts_file exclude each other")
    if given:
        for number, text in enumerate(given, 1):
            if not text.strip():
                raise UserError(f"--prompt number {number} is empty")
            _check_text(text, f"--prompt number {number}")
        return list(given)
    if file is None:
        if sys.stdin.isatty():
            raise UserError("no prompt: give --prompt=TEXT or --prompts_file=FILE, or write one to standard input")
        name = "standard input"
        prompts = _decoded(sys.stdin.buffer.read(), name)
    else:
        prompts, name = _lines(file), str(file)
    prompts = [prompt for prompt in prompts if prompt.strip()]
    if not prompts:
        raise UserError(f"{name}: holds no prompt")
    return prompts


def _lines(file: Path) -> list[str]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    lines = _decoded(content, str(file))
    if file.suffix != ".jsonl":
        return lines
    return [_prompt_of(line, f"{file}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _decoded(content: bytes, name: str) -> list[str]:
    """Returns lines; other characters that separate lines for Python are text."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: is not UTF-8 text: {error.reason} at byte {error.start}") from None
    return [line.removesuffix("\r") for line in text.split("\n")]


def _check_text(text: str, name: str) -> None:
    """Raises UserError for halves of characters, which no tokenizer takes."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(f"{name}: is not UTF-8 text")


def _prompt_of(line: str, place: str) -> str:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON: {error}") from None
    prompt = fields.get(_FIELD) if isinstance(fields, dict) else None
    if not isinstance(prompt, str):
        raise UserError(f'{place}: expected an object with a text under "{_FIELD}"')
    if not prompt.strip():
        raise UserError(f"{place}: the prompt is empty")
    _check_text(prompt, place)
    return prompt


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


def check_stops(texts: Sequence[str], tokenizer: Tokenizer) -> None:
    """Raises UserError for a stop text that is empty, or that the vocabulary cannot spell."""
    for text in texts:
        _check_text(text, "--stop")
        ids = tokenizer.encode(text).tolist()
        if not ids or tokenizer.decode(ids).strip() != text.strip():
            read = tokenizer.decode(ids)
            raise UserError(f"--stop={text!r}: not in the model's vocabulary, which reads it as {read!r}")

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
    from triarch.tasks.tokenizers import Tokenizer

MASK_WORDS = ("[MASK]", "<mask>")
_SPECIAL = re.compile(r"(\[MASK\]|<mask>|<extra_id_\d+>)")
_FIELD = "prompt"


def read_prompts(given: Sequence[str], file: Path | None) -> list[str]:
    """Returns the prompts given as arguments, or those of a file, or of standard input: one a line.

    A file whose name ends in .jsonl holds an object a line, its prompt under "prompt". Empty lines are passed over.

    Raises:
      UserError: there is no prompt, one is empty, or the file cannot be read.
    """
    if given and file is not None:
        raise UserError("--prompt and --prompts_file exclude each other")
    if given:
        empty = next((number for number, text in enumerate(given, 1) if not text.strip()), None)
        if empty is not None:
            raise UserError(f"--prompt number {empty} is empty")
        return list(given)
    if file is None:
        if sys.stdin.isatty():
            raise UserError("no prompt: give --prompt=TEXT or --prompts_file=FILE, or write one to standard input")
        prompts = [line.rstrip("\r\n") for line in sys.stdin]
        name = "standard input"
    else:
        prompts, name = _lines(file), str(file)
    prompts = [prompt for prompt in prompts if prompt.strip()]
    if not prompts:
        raise UserError(f"{name}: holds no prompt")
    return prompts


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is not UTF-8 text: {error.reason} at byte {error.start}") from None
    if file.suffix != ".jsonl":
        return lines
    return [_prompt_of(line, f"{file}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _prompt_of(line: str, place: str) -> str:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place}: not JSON: {error}") from None
    prompt = fields.get(_FIELD) if isinstance(fields, dict) else None
    if not isinstance(prompt, str):
        raise UserError(f'{place}: expected an object with a text under "{_FIELD}"')
    if not prompt.strip():
        raise UserError(f"{place}: the prompt is empty")
    return prompt


def encode(text: str, tokenizer: Tokenizer, special: SpecialTokens) -> np.ndarray:
    """Returns a prompt's ids; in it "<extra_id_0>", ... are the sentinels, "[MASK]" and "<mask>" the mask.

    Raises:
      UserError: the vocabulary has no such sentinel, or no mask.
    """
    parts = [_special_id(part, special) or tokenizer.encode(part) for part in _SPECIAL.split(text) if part]
    return np.concatenate([np.zeros(0, np.int32), *parts])


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


def encode_stop(text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Returns the ids of a stop text.

    Raises:
      UserError: the vocabulary cannot spell it.
    """
    ids = tokenizer.encode(text).tolist()
    if not ids or tokenizer.decode(ids).strip() != text.strip():
        raise UserError(f"--stop={text!r}: not in the model's vocabulary, which reads it as {tokenizer.decode(ids)!r}")
    return tuple(ids)

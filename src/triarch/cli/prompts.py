"""Prompts of `triarch generate`: where they are read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from triarch import schema
from triarch.decoding.prompt_texts import check_text
from triarch.errors import UserError
from triarch.files import read_given

_FIELD = "prompt"
_MOST_BYTES = 2**30


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
            check_text(text, f"--prompt number {number}")
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


def read_lines(file: Path) -> list[str]:
    """Returns the lines of a file of UTF-8 text.

    Raises:
      UserError: it cannot be read, or is no such text.
    """
    try:
        content = read_given(file, _MOST_BYTES)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    return _decoded(content, str(file))


def _lines(file: Path) -> list[str]:
    lines = read_lines(file)
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


def _prompt_of(line: str, place: str) -> str:
    fields = schema.parse(line, place, finite=False)
    prompt = fields.get(_FIELD) if isinstance(fields, dict) else None
    if not isinstance(prompt, str):
        raise UserError(f'{place}: expected an object with a text under "{_FIELD}"')
    if not prompt.strip():
        raise UserError(f"{place}: the prompt is empty")
    check_text(prompt, place)
    return prompt

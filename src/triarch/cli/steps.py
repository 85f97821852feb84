"""Flags that choose checkpoints of a run: a number, several, all of them, or the best one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from triarch.errors import UserError

BEST, ALL = "best", "all"
HELP = "checkpoint of a run: a number, or 'best' by its CheckpointConfig.keep_best (default: the newest whole one)"


def one_step(text: str) -> Any:
    """Returns the number of a checkpoint, or "best"; the type of a flag."""
    if text != BEST and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected the number of a checkpoint, or {BEST!r}")
    return text if text == BEST else int(text)


def one_or_several(text: str) -> Any:
    """Returns what `one_step` does, or the text itself if it asks for several, see `several`; the type of a flag."""
    parts = [part.strip() for part in text.split(",")]
    if text == ALL or (len(parts) > 1 and all(part.isdecimal() for part in parts)):
        return text
    if len(parts) > 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers of checkpoints between commas, or {ALL!r}")
    return one_step(text)


def several(step: Any) -> bool:
    """Returns whether a flag such as 100,200 or all asks for a series of checkpoints, and not for one."""
    return isinstance(step, str) and step != BEST


def chosen_steps(path: Path, text: str | None) -> list[Any]:
    """Returns the checkpoints that a flag such as 100,200, all or best asks for; [None] for the newest whole one.

    Raises:
      UserError: something else stands there, or there is no such checkpoint.
    """
    from triarch.loading import checkpoint_steps

    if text is None:
        checkpoint_steps(path)
        return [None]
    if text == ALL:
        return checkpoint_steps(path) or [None]
    parts = [part.strip() for part in text.split(",")]
    if not all(part == BEST or part.isdecimal() for part in parts):
        raise UserError(f"--step={text}: expected numbers of checkpoints between commas, {ALL!r} or {BEST!r}")
    return [checkpoint_steps(path, step="best" if part == BEST else int(part))[0] for part in parts]

"""Whatever ends a verb early, as one line and an exit status."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from triarch import __version__, disk
from triarch.cli import streams
from triarch.cli.interrupts import WORDS
from triarch.errors import FAULT, UserError, exit_status
from triarch.memory import asked_bytes, host_bytes, is_out_of_memory, shown

DEBUG = "TRIARCH_DEBUG"
_MOST_CHARACTERS = 1000
_MOST_PATH = 200


def report(verb: str, error: BaseException, argv: Sequence[str], args: argparse.Namespace) -> int:
    """Prints one line about `error` on standard error and returns the exit status.

    With --debug or TRIARCH_DEBUG=1 the traceback is printed before it. That of a fault of triarch itself is also
    written to a file, in the run folder if the verb has one.

    Args:
      verb: that was run.
      error: that ended it.
      argv: the flags of the verb.
      args: the same, parsed as far as they were.
    """
    if getattr(args, "debug", False) or os.environ.get(DEBUG, "0") not in ("", "0"):
        traceback.print_exception(error)
    status = exit_status(error)
    if status == FAULT:
        line = _fault(verb, error, argv, args)
    else:
        line = " ".join(f"error: {describe(error)}".split())
        if len(line) > _MOST_CHARACTERS:
            line = f"{line[:_MOST_CHARACTERS]} ..."
    print(f"triarch {verb}: {line}", file=sys.stderr)
    return status


def describe(error: BaseException) -> str:
    """Returns what to tell a user of an error that comes from the input, the machine, or a signal."""
    if isinstance(error, KeyboardInterrupt):
        return f"{WORDS.get(getattr(error, 'number', 0), 'interrupted')}{_notes(error)}"
    if isinstance(error, UserError):
        return f"{error}{_notes(error)}"
    paths = [_name(path) for path in (getattr(error, "filename", None), getattr(error, "filename2", None)) if path]
    place = f"{' -> '.join(paths)}: " if paths else ""
    if disk.is_full(error) and paths != [streams.OUTPUT]:
        return f"{place}{disk.full(paths[0] if paths else '.')}{_notes(error)}"
    if is_out_of_memory(error):
        return f"{place}{_memory(error)}{_notes(error)}"
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{place}{said}{_notes(error)}"


def check_texts(argv: Sequence[str]) -> None:
    """Makes sure that the command line is text.

    Raises:
      UserError: an argument is no UTF-8, as a file's name may be, or holds a NUL character.
    """
    for argument in argv:
        with contextlib.suppress(UnicodeEncodeError):
            argument.encode()
            if "\0" not in argument:
                continue
        raise UserError(f"{argument!a}: expected UTF-8 without NUL characters; rename what is called so")


def _memory(error: BaseException) -> str:
    asked = asked_bytes(error)
    needed = "" if asked is None else f": {shown(asked)} more were asked for at once"
    return (
        f"out of memory{needed}; this machine has {shown(host_bytes())}, what its accelerators have apart: "
        "try a smaller batch, shorter texts or a smaller model"
    )


def _fault(verb: str, error: BaseException, argv: Sequence[str], args: argparse.Namespace) -> str:
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(": ")
    try:
        where = f"the traceback is in {_write(verb, error, argv, args)}"
    except OSError as failed:
        where = f"the traceback could not be written ({failed.strerror}): set {DEBUG}=1 to see it"
    return f"this is a fault of triarch, not of your input: {what}; {where}{_notes(error)}"


def _write(verb: str, error: BaseException, argv: Sequence[str], args: argparse.Namespace) -> Path:
    """Writes all about a fault into a new file and returns its path."""
    text = "".join(traceback.format_exception(error))
    header = f"triarch {__version__}, Python {platform.python_version()}, {platform.platform()}\n{[verb, *argv]!r}\n\n"
    workdir = getattr(args, "workdir", None)
    folders = [Path(workdir)] if workdir and Path(workdir).is_dir() else []
    for folder in [*folders, Path(tempfile.gettempdir())]:
        with contextlib.suppress(OSError):
            number, path = tempfile.mkstemp(".txt", "triarch-fault-", folder)
            with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(header + text)
            return Path(path)
    raise OSError(0, "no folder to write to")


def _notes(error: BaseException) -> str:
    """Returns what was noted on the error on its way: what was saved. Libraries' notes are longer than a line."""
    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()) if "\n" not in note)


def _name(path: object) -> str:
    name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else str(path)
    return name if len(name) <= _MOST_PATH else f"{name[: _MOST_PATH // 2]}...{name[-_MOST_PATH // 2 :]}"

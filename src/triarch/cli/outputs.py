"""What flags say, checked before any work begins: files that can be written, names that are not empty, sane numbers."""

from __future__ import annotations

import argparse
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from triarch.errors import UserError
from triarch.temporary import clear_leftovers

_PLACES = {"FOLDER", "FILE", "PATH", "DIR", "STORE", "TABLE", "HF_FOLDER", "RUN"}
_MOST_SEED = 2**32 - 1
_MOST_NUMBER = 2**63 - 1


def check_file(flag: str, path: str | Path, make: bool = False) -> None:
    """Makes sure that a file can be written at `path`, which `flag` names.

    With `make` its folder will be made if need be. Writes nothing, and removes what a killed process left of the same
    file.

    Raises:
      UserError: it is a folder, its folder is missing, or one of them may not be written.
    """
    given, path = f"--{flag}={path}", Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{given}: is a folder, expected a file to write")
        if make and not os.path.lexists(path.parent):
            check_folder(flag, path.parent)
            return
        if not path.parent.is_dir():
            raise UserError(f"{given}: no folder {path.parent}")
        # What is no regular file, as a device or a pipe, is written to; others are replaced, in their folder.
        target = path if path.exists() and not path.is_file() else path.parent
        path.lstat()
    except FileNotFoundError:
        target = path.parent
    except OSError as error:
        raise UserError(f"{given}: {error.strerror}") from error
    if not os.access(target, os.W_OK):
        raise UserError(f"{given}: {target} may not be written")
    clear_leftovers(path.parent, path.name)


def check_folder(flag: str, path: str | Path) -> None:
    """Makes sure that the folder `path`, which `flag` names, can be written or made; makes nothing.

    Raises:
      UserError: a file stands there or above it, its name is too long, or it may not be written.
    """
    given, path = f"--{flag}={path}", Path(path)
    try:
        if os.path.lexists(path) and not path.is_dir():
            broken = " (a link that leads nowhere)" if path.is_symlink() and not path.exists() else ""
            raise UserError(f"{given}: expected a folder{broken}")
        path.exists() or path.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(f"{given}: {error.strerror}") from error
    above = path
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        raise UserError(f"{given}: {above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{given}: {above} may not be written")


def check_new_folder(flag: str, path: Path, overwrite: bool) -> None:
    """As `check_folder`, of a folder that is to be new unless it may be overwritten."""
    check_folder(flag, path)
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already: choose another --{flag} or give --overwrite")


def check_values(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Makes sure that no flag is given an empty value, which for a file or folder would mean the current folder.

    Raises:
      UserError: names the flag.
    """
    flags = {option: action for action in parser._actions for option in action.option_strings if action.nargs != 0}
    for argument, following in itertools.zip_longest(argv, argv[1:]):
        flag, given, value = argument.partition("=")
        if flag in flags and (following if not given else value) == "":
            words = re.findall(r"[A-Z_]+", str(flags[flag].metavar))
            is_place = flags[flag].type is Path or not _PLACES.isdisjoint(words)
            expected = "a name; the current folder is called ." if is_place else "a value, or leave the flag out"
            raise UserError(f"{flag}=: expected {expected}")


def check_numbers(args: argparse.Namespace) -> None:
    """Makes sure that numbers fit the machine's.

    Raises:
      UserError: a seed is not from 0 to 2^32 - 1, or another number has more than 64 bits.
    """
    for name, value in vars(args).items():
        if name == "seed" and isinstance(value, int) and not 0 <= value <= _MOST_SEED:
            raise UserError(f"--seed={str(value)[:40]}: expected a whole number from 0 to {_MOST_SEED}")
        if isinstance(value, int) and abs(value) > _MOST_NUMBER:
            raise UserError(f"--{name}={str(value)[:40]}...: expected a number of at most 64 bits")

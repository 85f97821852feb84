"""A folder that is either absent or whole."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from triarch.errors import UserError
from triarch.interchange.literal_names import check_name


@contextlib.contextmanager
def whole_folder(output: Path, overwrite: bool, replaceable: Callable[[Path], bool]) -> Iterator[Path]:
    """Gives a hidden sibling of `output` to write into, which becomes `output` when the block ends without error.

    A killed writer leaves only the hidden folder, which the next writer of the same output on this machine removes.

    Args:
      output: the folder to make.
      overwrite: whether it may replace one that is there.
      replaceable: whether a folder that is there is of the kind that may be replaced.

    Raises:
      UserError: `output` exists and may not be replaced, or it cannot be written.
    """
    hidden = output.absolute().parent / f"{_prefix(output)}{os.getpid()}"
    check_name(output)
    with _explained(output):
        _check(output, overwrite, replaceable)
        hidden.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(output)
        hidden.mkdir()
    try:
        with _explained(output):
            yield hidden
            _check(output, overwrite, replaceable)
            if output.exists():
                replaced = hidden.with_name(f"{hidden.name}.replaced")
                output.rename(replaced)
                hidden.rename(output)
                shutil.rmtree(replaced)
            else:
                hidden.rename(output)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _check(output: Path, overwrite: bool, replaceable: Callable[[Path], bool]) -> None:
    if not output.exists():
        return
    if not overwrite:
        raise UserError(f"{output}: exists already: choose another --output or give --overwrite")
    if not replaceable(output):
        raise UserError(f"{output}: is not an export, so --overwrite does not remove it")


def _prefix(output: Path) -> str:
    return f".{output.name}.partial-{socket.gethostname()}-"


def _clear_abandoned(output: Path) -> None:
    for path in list(output.absolute().parent.glob(f"{glob.escape(_prefix(output))}*")):
        process = path.name.removeprefix(_prefix(output)).removesuffix(".replaced")
        if not process.isdigit() or _is_running(int(process)):
            continue
        if path.name.endswith(".replaced") and not output.exists():
            path.rename(output)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _explained(output: Path) -> Iterator[None]:
    """Turns a full disk or a forbidden folder into one line."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # TensorStore raises the latter two.
        is_full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if is_full:
            raise UserError(f"{output}: the disk is full; nothing was kept") from error
        if not isinstance(error, OSError):
            raise
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from error

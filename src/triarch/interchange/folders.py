"""A folder that is either absent or whole."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from triarch import disk
from triarch.errors import UserError
from triarch.interchange.literal_names import check_name
from triarch.temporary import clear_leftovers, leftovers, remove, temporary_folder, temporary_path


@contextlib.contextmanager
def whole_folder(output: Path, overwrite: bool, replaceable: Callable[[Path], bool]) -> Iterator[Path]:
    """Gives a hidden sibling of `output` to write into, which becomes `output` when the block ends without error.

    A killed writer leaves only the hidden folder, which the next writer of the same output removes.

    Args:
      output: the folder to make.
      overwrite: whether it may replace one that is there.
      replaceable: whether a folder that is there is of the kind that may be replaced.

    Raises:
      UserError: `output` exists and may not be replaced, or it cannot be written.
    """
    check_name(output)
    with _explained(output):
        _check(output, overwrite, replaceable)
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        _put_back(output)
        clear_leftovers(output.absolute().parent, output.name)
    with _explained(output), temporary_folder(output.absolute()) as hidden:
        yield hidden
        _check(output, overwrite, replaceable)
        if output.exists():
            replaced = temporary_path(_replaced(output))
            output.rename(replaced)
            hidden.rename(output)
            shutil.rmtree(replaced)
        else:
            hidden.rename(output)


def _check(output: Path, overwrite: bool, replaceable: Callable[[Path], bool]) -> None:
    if not output.exists():
        return
    if not overwrite:
        raise UserError(f"{output}: exists already: choose another --output or give --overwrite")
    if not replaceable(output):
        raise UserError(f"{output}: is not an export, so --overwrite does not remove it")


def _replaced(output: Path) -> Path:
    return output.absolute().with_name(f"{output.name}.replaced")


def _put_back(output: Path) -> None:
    """Undoes or completes a replacement in the middle of which a writer was killed."""
    for path in leftovers(output.absolute().parent, _replaced(output).name):
        if output.exists():
            remove(path)
        else:
            path.rename(output)


@contextlib.contextmanager
def _explained(output: Path) -> Iterator[None]:
    """Turns a full disk or a forbidden folder into one line."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # TensorStore raises the latter two.
        if disk.is_full(error):
            raise UserError(f"{output}: {disk.full(output)}; nothing was kept") from error
        if not isinstance(error, OSError):
            raise
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from error

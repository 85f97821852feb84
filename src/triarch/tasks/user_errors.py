"""What a user's own module, source or preprocessor raises, in one line."""

from __future__ import annotations

import contextlib
import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from triarch.errors import UserError
from triarch.memory import is_out_of_memory


@contextlib.contextmanager
def told(owner: str, asks_for_lengths: bool = False) -> Iterator[None]:
    """Turns what the user's code raises into a UserError of one line.

    Args:
      owner: what was being done, to begin the line with.
      asks_for_lengths: whether an error may come of lengths that were not given.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        hint = " (give --sequence_length?)" if asks_for_lengths and isinstance(error, TypeError | KeyError) else ""
        raise UserError(f"{owner}: {_line(error)}{hint}") from error


def _line(error: BaseException) -> str:
    """Returns an error in one line, with the place in the user's own code where it arose, if it did."""
    text = str(error).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kind = type(error).__name__
    message = next(iter(lines), "")
    where = ""
    if message.startswith("in user code"):  # TensorFlow, with a traceback of its own in the message.
        message, kind = lines[-1], ""
        places = re.findall(r'File "([^"]+)", line (\d+)', text)
        own = [f"{file} line {number}: " for file, number in places if _is_users(file)]
        where = own[-1] if own else ""
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
        where = f"{frames[-1].filename} line {frames[-1].lineno}: " if frames else ""
    message = re.sub(r"\s*\[Op:\w+\].*", "", message)
    return f"{where}{kind}{': ' if kind and message else ''}{message[:300]}"


def _is_users(file: str) -> bool:
    """Whether a line is of neither Python, nor an installed library, nor triarch."""
    path = Path(file)
    libraries = (Path(sysconfig.get_path("stdlib")), Path(__file__).parents[1])
    generated = file.startswith("<") or "__autograph_generated" in file
    return not (generated or "site-packages" in path.parts or any(map(path.is_relative_to, libraries)))

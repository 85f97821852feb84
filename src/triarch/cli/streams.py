"""Standard input, output and error as a program can rely on them: open, of any encoding, whoever may have left."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any

OUTPUT = "standard output"


def open_all() -> None:
    """Opens what was closed, lets no character be unprintable, and keeps standard error from ending the work.

    Otherwise the first file to be opened would take the place of a closed stream, and receive what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # Takes the lowest free number.
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Messages(2, "w", closefd=False), sys.stderr)
    sys.stderr.reconfigure(line_buffering=True)


def output_failed(error: OSError) -> bool:
    """Returns whether `error` is of standard output, as after `triarch ... | head`; what is left then goes nowhere."""
    try:
        sys.stdout.flush()
    except OSError:
        error.filename = OUTPUT
    if error.filename != OUTPUT:
        return False
    with contextlib.suppress(OSError, ValueError):
        _to_nowhere(sys.stdout.fileno())
        sys.stdout.flush()
    return True


class _Output(io.FileIO):
    """A stream whose errors name it."""

    def write(self, data: Any) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, OUTPUT) from None


class _Messages(io.FileIO):
    """A stream that lasts: once its reader is gone, its terminal or its disk, messages go nowhere."""

    def write(self, data: Any) -> int:
        try:
            written = super().write(data)
        except OSError:
            _to_nowhere(self.fileno())
            written = None
        # None also of a pipe that is full and does not wait.
        return memoryview(data).nbytes if written is None else written


def _text(raw: io.FileIO, like: Any) -> io.TextIOWrapper:
    """Returns a stream of text over `raw`, which is buffered as `like`; that is None where it was closed."""
    encoding = "utf-8" if like is None else like.encoding
    at_once = getattr(like, "write_through", False)
    buffer: Any = raw if at_once else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=raw.isatty(), write_through=at_once)


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)

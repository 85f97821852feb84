"""Ctrl-C and SIGTERM, from the first moment on: one line, and the status that a shell gives to such an end."""

from __future__ import annotations

import os
import signal

# Of typing, which takes a moment to import: until `install` Ctrl-C is Python's.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

WORDS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_received: int | None = None
_process = 0


def install() -> None:
    """Makes SIGINT and SIGTERM raise `Stopped` in the main thread, unless whoever started the process ignores them.

    In the middle of an import, or at a second signal, they end the process at once: native code that is half loaded
    swallows exceptions, and crashes afterwards.
    """
    global _process
    _process = os.getpid()
    for number in WORDS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def received() -> int | None:
    """Returns the signal that `install` took, if there was one."""
    return _received


def leave_to_system() -> None:
    """Lets both signals end the process at once, as the interpreter shuts down."""
    for number in WORDS:
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:
    global _received
    if os.getpid() != _process:  # A fork, whose parent knows what to do about its end.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    if _received is not None or _is_importing(frame):
        _end_now(number)
    _received = number
    from triarch.errors import Stopped  # Not before: until all is installed, only what takes no time is imported.

    raise Stopped(number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end_now(number: int) -> NoReturn:
    try:
        os.write(2, f"triarch: {WORDS[number]}\n".encode())
    finally:
        os._exit(128 + number)

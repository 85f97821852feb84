"""The program `triarch`, as installed or as `python -m triarch`."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def program() -> NoReturn:
    """Runs one verb and ends the process with its exit status."""
    try:
        from triarch.cli import interrupts

        interrupts.install()
    except KeyboardInterrupt:
        os.write(2, b"triarch: interrupted\n")
        os._exit(130)
    # Only now: imports take a moment, in which Ctrl-C is to end the program like later.
    import sys

    from triarch.cli import streams
    from triarch.cli.main import READER_LEFT, main

    streams.open_all()
    try:
        status = main()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    interrupts.leave_to_system()
    try:
        sys.stdout.flush()  # What argparse printed as help.
    except OSError as error:
        streams.output_failed(error)
        status = status or READER_LEFT
    number = interrupts.received()
    if number is not None and not status:
        # A library took the exception for one of its own.
        print(f"triarch: {interrupts.WORDS[number]}", file=sys.stderr)
        status = 128 + number
    if number is not None:
        # Threads of native code may be anywhere: the interpreter's own end could crash.
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    program()

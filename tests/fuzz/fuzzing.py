"""One target tried with inputs that hypothesis draws, each within bounds of time and memory."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck

from tests.bad_input.case import Folder
from tests.bounds import bounded
from tests.fuzz.targets import Target
from triarch.errors import UserError

SECONDS = 20.0
MEMORY = 2**32
# Inputs that were found to fail, by target; each is read again by every run of the tests.
FOUND = Path(__file__).parent / "found"


class Bench:
    """A folder in which one target's file is made bad again and again."""

    def __init__(self, target: Target, folder: Folder):
        self.target = target
        self.folder = folder
        self.good = target.prepare(folder)
        self.last = self.good
        self.count = 0

    def check(self, content: bytes) -> None:
        """Reads the folder with that file.

        Raises:
          Exception: whatever reading raises other than UserError.
        """
        self.last = content
        self.count += 1
        self.folder.write(self.target.file, content)
        with bounded(SECONDS, MEMORY), contextlib.suppress(UserError):
            self.target.read(self.folder.path)

    def explore(self, settings: hypothesis.settings, seed: int | None = None) -> None:
        """Tries inputs; where one fails, makes it smaller, leaves it in `last`, and raises what it raises."""
        check: Callable = hypothesis.given(self.target.inputs(self.good))(self.check_drawn)
        check = settings(check)
        if seed is not None:
            check = hypothesis.seed(seed)(check)
        check()

    @property
    def check_drawn(self) -> Callable[[bytes], None]:
        """`check` as a function without `self`, as hypothesis wants it."""

        def check(content: bytes) -> None:
            self.check(content)

        return check

    def store(self) -> Path:
        """Keeps the last input among those that every run of the tests reads again; returns where."""
        path = FOUND / self.target.name.replace(" ", "_") / hashlib.sha256(self.last).hexdigest()[:12]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.last)
        return path


def found(target: Target) -> list[Path]:
    """Returns the inputs of a target that were found to fail once."""
    return sorted((FOUND / target.name.replace(" ", "_")).glob("*"))


def settings(examples: int, **options: object) -> hypothesis.settings:
    """Returns settings for so many inputs; bounds and storage are our own."""
    return hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        **options,
    )

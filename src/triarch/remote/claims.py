"""One writer a folder of a bucket, which has no locks: claims are numbered, and the highest one holds.

A claim is made by creating an object that is not there, which only one of several writers can do. Its holder writes it
anew now and then; one that has not for a while is taken to be gone, and the next number may be claimed. A holder that
finds a higher number has been taken for gone: it must write nothing more.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading

from triarch.errors import UserError
from triarch.remote.objects import Objects
from triarch.temporary import this_writer, writer_lives

_FOLDER = ".triarch/claims"
BEAT_SECONDS = 30.0
GONE_SECONDS = 180.0


class Claim:
    """A folder of a bucket, held from the time this is made until `release`.

    Attributes:
      number: of the claim.
      before: of the claim that was there, which its holder did not release; 0 if there was none.
    """

    def __init__(self, objects: Objects, beat: float = BEAT_SECONDS, gone: float = GONE_SECONDS):
        """Claims the folder.

        Args:
          objects: of the folder.
          beat: seconds between signs of life.
          gone: without one for so long, another's claim is over.

        Raises:
          UserError: another process has it, or it cannot be written.
        """
        self._objects = objects
        self._token = secrets.token_hex(8)
        self._lost = threading.Event()
        self._released = threading.Event()
        now = objects.check_writable()
        numbers = self._numbers()
        newest = max(numbers, default=0)
        if newest:
            holder = self._holder(newest)
            age = (now - objects.modified(self._name(newest))).total_seconds() if holder else 0.0
            if holder and writer_lives(holder["writer"]) is not False and age < gone:
                known = writer_lives(holder["writer"]) is None
                wait = f"; should it be gone, this works in {gone - age:.0f} s" if known else ""
                raise UserError(
                    f"{objects.url}: another process is training in this run folder ({holder['place']}, last seen "
                    f"{max(age, 0):.0f} s ago{wait})"
                )
        self.before, self.number = newest, newest + 1
        if not objects.create(self._name(self.number), self._content()):
            raise UserError(f"{objects.url}: another process has just begun in this run folder")
        objects.remove([self._name(number) for number in numbers])
        self._thread = threading.Thread(target=self._beat, args=(beat,), daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another process took the folder."""
        return self._lost.is_set()

    def check(self) -> None:
        """Raises UserError where another process took the folder."""
        # Whoever takes the folder removes this claim, and may have finished since.
        if not self._lost.is_set() and self._numbers()[-1:] != [self.number]:
            self._lost.set()
        if self._lost.is_set():
            raise UserError(f"{self._objects.url}: another process has taken this run folder: nothing more is written")

    def release(self) -> None:
        """Gives the folder up, unless another has it."""
        self._released.set()
        self._thread.join()
        if not self._lost.is_set():
            self._objects.remove([self._name(self.number)])

    def _beat(self, seconds: float) -> None:
        while not self._released.wait(seconds):
            # Whoever writes next meets what is wrong: a lost claim is remembered, a bucket that is away may come back.
            with contextlib.suppress(UserError):
                self._sign()
            if self._lost.is_set():
                return

    def _sign(self) -> None:
        self.check()
        self._objects.write(self._name(self.number), self._content())

    def _numbers(self) -> list[int]:
        names = (name.rpartition("/")[2] for name in self._objects.sizes(_FOLDER))
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def _holder(self, number: int) -> dict[str, str] | None:
        """Returns who made a claim, None if it is there no longer, or says nothing."""
        try:
            said = json.loads(self._objects.read(self._name(number)) or b"null")
            return {"writer": str(said["writer"]), "place": str(said["place"])[:200]}
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def _content(self) -> bytes:
        # By the token a claim knows itself, and no other of the same process, where an answer was lost.
        place = f"process {os.getpid()} on {socket.gethostname()}"
        return json.dumps({"writer": this_writer(), "place": place, "token": self._token}).encode() + b"\n"

    def _name(self, number: int) -> str:
        return f"{_FOLDER}/{number:06d}"

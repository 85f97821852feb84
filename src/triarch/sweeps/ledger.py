"""What happened to every stage of a sweep, in a file that outlives it; and who is working on what."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from triarch import schema
from triarch.errors import UserError
from triarch.files import read_regular
from triarch.runtime.lock import NO_LOCKS_HERE
from triarch.schema import Number, Record, Text

_MOST_BYTES = 2**30
_ENTRY = Record({"owner": Text(), "stage": Text(), "status": Text(), "seconds": Number()}, others=True)


class Ledger:
    """An append-only file, a JSON object a line, that several processes may write: a line is whole or, where a kill or
    a full disk cut it short, ignored."""

    def __init__(self, path: Path):
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def record(self, owner: str, stage: str, status: str, seconds: float = 0.0, **more: str) -> None:
        """Appends one line; `status` is "started", "done", "failed", "stopped", or "submitted" to a fleet."""
        entry = {
            "owner": owner,
            "stage": stage,
            "status": status,
            "seconds": round(seconds, 2),
            "time": round(time.time(), 2),
            "process": f"{socket.gethostname()}:{os.getpid()}",
            **more,
        }
        with open(self._path, "a+b") as file:
            with contextlib.suppress(OSError):  # Without locks two lines may, at worst, tear one another.
                fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            torn = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * torn + json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> list[dict]:
        """Returns every whole line, in order."""
        if not self._path.exists():
            return []
        found = []
        for line in read_regular(self._path, _MOST_BYTES, self._path.parent).decode(errors="replace").splitlines():
            with contextlib.suppress(UserError):
                found.append(schema.check(schema.parse(line, str(self._path)), _ENTRY, str(self._path)))
        return found

    def seconds(self) -> dict[tuple[str, str], float]:
        """Returns the seconds that each stage took, over all attempts."""
        total: dict[tuple[str, str], float] = {}
        for entry in self.entries():
            key = (entry["owner"], entry["stage"])
            total[key] = total.get(key, 0.0) + entry["seconds"]
        return total

    def elapsed(self) -> float:
        """Returns the seconds in which any stage was at work, those of several at once counted once."""
        spans = sorted(
            (entry["time"] - entry["seconds"], entry["time"])
            for entry in self.entries()
            if entry["status"] != "started" and isinstance(entry.get("time"), (int, float))
        )
        total, reached = 0.0, 0.0
        for begin, end in spans:
            total += max(end - max(begin, reached), 0.0)
            reached = max(reached, end)
        return total

    def failures(self) -> dict[str, int]:
        """Returns how often each owner's stages failed."""
        count: dict[str, int] = {}
        for entry in self.entries():
            if entry["status"] == "failed":
                count[entry["owner"]] = count.get(entry["owner"], 0) + 1
        return count


@contextlib.contextmanager
def claimed(folder: Path, owner: str) -> Iterator[bool]:
    """Claims an owner's stages for this process while the context lasts; yields False where another process has them.

    The system drops the claim when the process ends, however it does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{owner}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            # A file system without locks cannot tell: one sweep at a time is then the user's care.
            if error.errno not in NO_LOCKS_HERE:
                raise
        yield True

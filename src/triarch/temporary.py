"""Names for what is being written, from which anyone can tell whether its writer still lives.

A name holds the machine, the writer's process and when that began: process numbers alone repeat, in containers at every
start. What a dead writer left is removed by whoever writes at the same place next.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

# Nothing that is written rests this long; of writers on other machines no more is known.
_REST_SECONDS = 3600.0
# A file's name may have 255 bytes; its end, by which some libraries choose a format, is kept.
_KEPT_BYTES = 190
_NAME = re.compile(r"\.([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}\.tmp\.")


def temporary_path(target: Path) -> Path:
    """Returns a path beside `target`, and ending like it, that no process has ever used."""
    process = os.getpid()
    token = f"{_machine()}-{process}-{_started(process) or 0}-{secrets.token_hex(4)}"
    return target.with_name(f".{token}.tmp.{_kept(target.name)}")


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Gives an empty folder beside `target`, which is removed at the end unless it was moved away."""
    path = temporary_path(target)
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def leftovers(folder: Path, target: str | None = None) -> list[Path]:
    """Returns what dead writers left in `folder`: all of it, or that of files called `target`."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            name = _NAME.match(path.name)
            if name is None or (target is not None and path.name[name.end() :] != _kept(target)):
                continue
            if not _may_live(path, name[1], int(name[2]), int(name[3])):
                found.append(path)
    return found


def clear_leftovers(folder: Path, target: str | None = None) -> None:
    """Removes what dead writers left in `folder`, see `leftovers`."""
    for path in leftovers(folder, target):
        remove(path)


def remove(path: Path) -> None:
    """Removes a file or a folder, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def this_writer() -> str:
    """Returns a word for this process, by which any other can ask whether it still lives."""
    return f"{_machine()}-{os.getpid()}-{_started(os.getpid()) or 0}"


def writer_lives(writer: str) -> bool | None:
    """Returns whether the process of such a word lives; None where it is another machine's, or no word at all."""
    name = re.fullmatch(r"([0-9a-f]{8})-(\d{1,10})-(\d{1,20})", writer)
    if name is None or name[1] != _machine() or not int(name[3]):
        return None
    return _started(int(name[2])) == int(name[3])


def _may_live(path: Path, machine: str, process: int, started: int) -> bool:
    if machine == _machine() and started:
        return _started(process) == started
    return time.time() - _last_written(path) < _REST_SECONDS


def _kept(name: str) -> str:
    return os.fsencode(name)[-_KEPT_BYTES:].decode(errors="ignore")


def _last_written(path: Path) -> float:
    times = [0.0]
    for one in (path, *path.rglob("*")) if path.is_dir() else (path,):
        with contextlib.suppress(OSError):
            times.append(one.lstat().st_mtime)
    return max(times)


@functools.cache
def _machine() -> str:
    """Returns 8 hexadecimal digits of the system that counts this process: its host, start, and container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _started(process: int) -> int | None:
    """Returns when a process began, in ticks since the system did; None if there is none, or the system cannot say."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return None
    # After the program's name, which may hold anything; the third field is the first of these.
    return int(text.rpartition(")")[2].split()[19])

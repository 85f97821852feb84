"""One mistake: the files it needs, the command, and what the line that answers it must mention."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.bad_input.samples import Samples, linked


class Folder:
    """The folder in which a case's command runs, with what its mistake is made of."""

    def __init__(self, path: Path, samples: Samples):
        self.path = path
        self.samples = samples

    def take(self, name: str, destination: str | None = None) -> Path:
        """Puts a sample here; its files are shared, so none may be changed in place."""
        linked(self.samples.path(name), self.path / (destination or name))
        return self.path / (destination or name)

    def write(self, name: str, content: object) -> Path:
        """Writes a file anew: bytes, text (UTF-8), or anything else as JSON."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if not isinstance(content, bytes | str):
            content = json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def edit(self, name: str, change: Change) -> Path:
        """Changes what a file holds."""
        return self.write(name, change((self.path / name).read_bytes()))

    def remove(self, name: str) -> None:
        """Removes a file or a folder."""
        path = self.path / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


Change = Callable[[bytes], bytes]
Make = Callable[[Folder], object]


@dataclasses.dataclass(frozen=True)
class Case:
    """A mistake.

    Attributes:
      name: unique; begins with its area.
      argv: the command line, run in the case's folder.
      says: what the line must mention.
      make: puts files into the folder.
      tensorflow: whether the command needs TensorFlow before it can tell.
    """

    name: str
    argv: tuple[str, ...]
    says: tuple[str, ...]
    make: Make
    tensorflow: bool = False


def case(
    name: str,
    command: str,
    *says: str,
    takes: str = "",
    files: dict[str, object] | None = None,
    make: Make | Iterable[Make] = (),
    tensorflow: bool = False,
) -> Case:
    """Returns a case.

    Args:
      name: see `Case`.
      command: without "triarch", split as a shell does.
      *says: what the line must mention.
      takes: names of samples to put there, with spaces between.
      files: contents of further files, by name.
      make: what else is done, in order.
      tensorflow: see `Case`.
    """
    makes = [make] if callable(make) else list(make)

    def prepare(folder: Folder) -> None:
        for sample in takes.split():
            folder.take(sample)
        for file, content in (files or {}).items():
            folder.write(file, content)
        for one in makes:
            one(folder)

    return Case(name, tuple(shlex.split(command)), says, prepare, tensorflow)


def edited(name: str, change: Change) -> Make:
    """Changes the bytes of a file."""
    return lambda folder: folder.edit(name, change)


def json_set(name: str, place: str, value: Any) -> Make:
    """Sets what a JSON file holds at a place such as "splits.train.files.0.size"."""
    return edited(name, lambda content: json.dumps(changed(json.loads(content), place, value)).encode())


def json_drop(name: str, place: str) -> Make:
    """Takes away what a JSON file holds at a place."""
    return json_set(name, place, DROP)


def json_values(
    about: str,
    file: str,
    command: str,
    *says: str,
    takes: str,
    values: Iterable[tuple[str, Iterable[Any]]] = (),
    lacking: Iterable[str] = (),
) -> Iterator[Case]:
    """Yields a case for each of the values at each place of a JSON file, and for each place that is not there.

    Args:
      about: begins the names.
      file: the JSON file, part of a sample.
      command: that reads it.
      *says: see `case`.
      takes: see `case`.
      values: places, each with values that do not belong there.
      lacking: places that must be there.
    """
    for place, others in values:
        for value in others:
            make = json_set(file, place, value)
            yield case(f"{about}: {place} is {value!r}", command, *says, takes=takes, make=make)
    for place in lacking:
        yield case(f"{about}: no {place}", command, *says, takes=takes, make=json_drop(file, place))


def bad_json(about: str, file: str, command: str, *says: str, takes: str = "") -> Iterator[Case]:
    """Yields a case for each content of a JSON file that is none, or is of a shape that nobody expects."""
    for name, content in BAD_JSON.items():
        yield case(f"{about}: {name}", command, *says, takes=takes, files={file: content})


def damaged(about: str, file: str, command: str, *says: str, takes: str, without: Iterable[str] = ()) -> Iterator[Case]:
    """Yields a case for each damage to a file of a sample, those left out that it survives."""
    for name, damage in DAMAGES.items():
        if name not in without:
            yield case(f"{about}: {name}", command, *says, takes=takes, make=edited(file, damage))


# What `changed` takes a place away for.
DROP = object()


def changed(fields: Any, place: str, value: Any) -> Any:
    """Returns what a JSON file holds, with `value` at a place; changed in place."""
    *parents, last = (int(key) if key.isdecimal() else key for key in place.split("."))
    inner = fields
    for key in parents:
        inner = inner[key]
    if value is DROP:
        del inner[last]
    else:
        inner[last] = value
    return fields


# What happens to files of any kind on their way: each keeps the name and changes the bytes.
DAMAGES: dict[str, Change] = {
    "empty": lambda content: b"",
    "cut in half": lambda content: content[: len(content) // 2],
    "a web page": lambda content: b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "a pickle": lambda content: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
    "a pointer of Git LFS": lambda content: (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 12345\n"
    ),
    "zeros": lambda content: bytes(len(content)),
    "gzip": lambda content: b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + content,
    "not UTF-8": lambda content: b"\xff\xfe" + content,
}
# What is no JSON, or is JSON of a shape that nobody expects.
BAD_JSON: dict[str, bytes] = {
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "a text": b'"text"',
    "an empty object": b"{}",
    "a trailing comma": b'{"format": "x",}',
    "single quotes": b"{'format': 'x'}",
    "nested 100,000 deep": b"[" * 100_000,
    "an integer of 5,000 digits": b'{"version": ' + b"9" * 5_000 + b"}",
}

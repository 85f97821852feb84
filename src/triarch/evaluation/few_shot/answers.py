"""Answers of a model kept on disk as they come, so that a killed evaluation resumes."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from triarch import schema
from triarch.errors import UserError
from triarch.files import check_regular
from triarch.schema import Anything, Digest, Items

FORMAT = "triarch.answers"
VERSION = 1


class Answers:
    """A file of JSON lines: what was asked of whom, and then an answer a line, by the hash of its request.

    A process killed while it writes leaves at most one line that is not whole, which the next one cuts off.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any]):
        """Opens the file, or makes it; with a path of None answers are kept in memory only.

        Args:
          path: of the file.
          identity: what answers depend on besides their requests: the model, how it reads text.

        Raises:
          UserError: the file holds something else, or another process's answers in the making.
        """
        self._known: dict[str, Any] = {}
        self._file = None
        if path is None:
            return
        header = {"format": FORMAT, "version": VERSION, **json.loads(json.dumps(identity))}
        try:
            if path.exists():
                check_regular(path)
            self._file = path.open("a+b")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise UserError(f"{path}: cannot keep answers here: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{path}: another evaluation is writing its answers here") from None
        self._file.seek(0)
        *lines, rest = self._file.read().split(b"\n")
        if lines:
            self._read(path, lines, header)
        elif not json.dumps(header).encode().startswith(rest):
            raise UserError(f"{path}: not a file of answers")
        self._file.truncate(sum(len(line) + 1 for line in lines))
        if not lines:
            self._write(header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, kind: str, arguments: Any) -> Any:
        """Returns the answer to a request, None if there is none yet."""
        return self._known.get(_key(kind, arguments))

    def add(self, kind: str, arguments: Any, answer: Any) -> None:
        """Keeps an answer: it outlives the process from now on."""
        key = _key(kind, arguments)
        self._known[key] = answer
        self._write([key, answer])

    def _write(self, value: Any) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps(value).encode() + b"\n")
        self._file.flush()

    def _read(self, path: Path, lines: list[bytes], header: Mapping[str, Any]) -> None:
        found = schema.parse(lines[0], f"{path}: not a file of answers: line 1")
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise UserError(f"{path}: not a file of answers")
        changed = [name for name in header if found.get(name) != header[name]]
        if changed:
            raise UserError(
                f"{path}: holds answers given under another {', '.join(changed)}: name another file with --answers, or "
                "delete it"
            )
        for number, line in enumerate(lines[1:], 2):
            place = f"{path}: not a file of answers: line {number}"
            key, answer = schema.check(schema.parse(line, place, finite=False), Items(Anything(), 2, 2), place)
            self._known[schema.check(key, Digest(), place)] = _checked(answer, place)


def _checked(answer: Any, where: str) -> Any:
    """Returns an answer if it is one: a text or its ids, a log-likelihood, or one and if the text was likeliest."""
    if isinstance(answer, list) and all(type(one) is int for one in answer):
        return answer
    number, *more = answer if isinstance(answer, list) and len(answer) == 2 else [answer]
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if isinstance(answer, str) or (is_number and all(isinstance(one, bool) for one in more)):
        return answer
    raise UserError(f"{where}: {str(answer)[:60]!r} is no answer of a model")


def _key(kind: str, arguments: Any) -> str:
    return hashlib.sha256(json.dumps([kind, arguments], sort_keys=True).encode()).hexdigest()

"""Local `.txt` and `.jsonl` files, plain or gzipped, as a corpus."""

from __future__ import annotations

import dataclasses
import glob
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from triarch.errors import UserError, nearest
from triarch.tasks.documents import Document

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz")
UNITS = ("file", "line", "paragraph")


@dataclasses.dataclass(frozen=True)
class LocalFiles:
    """Documents from files of text or of JSON lines.

    Attributes:
      paths: the files, in order; their names end in one of `SUFFIXES`.
      text_field: the field of a JSON line that holds the document.
      unit: what a document of a `.txt` file is: the whole "file", each "line", or each "paragraph" (lines between
        blank lines). Empty ones are left out.
    """

    paths: tuple[Path, ...]
    text_field: str = "text"
    unit: str = "file"

    def __post_init__(self):
        if self.unit not in UNITS:
            raise UserError(f"documents={self.unit!r}: unknown unit{nearest(self.unit, UNITS)}")
        for path in self.paths:
            if not path.name.endswith(SUFFIXES):
                raise UserError(f"{path}: expected a file named {', '.join(f'*{suffix}' for suffix in SUFFIXES)}")
            if not path.is_file():
                raise UserError(f"{path}: {'is a folder, expected a file' if path.is_dir() else 'no such file'}")

    @classmethod
    def matching(cls, patterns: Iterable[str], text_field: str = "text", unit: str = "file") -> LocalFiles:
        """Returns the files that match the glob `patterns`: each pattern's sorted, none twice.

        Raises:
          UserError: a pattern matches nothing, or a file is not of a known kind.
        """
        paths: dict[Path, None] = {}
        for pattern in patterns:
            # A file whose own name holds brackets or stars is meant literally.
            found = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))
            if not found:
                raise UserError(f"--files={pattern}: no such file, and nothing matches it as a pattern")
            paths.update(dict.fromkeys(map(Path, found)))
        return cls(tuple(paths), text_field, unit)

    def documents(self) -> Iterator[Document]:
        """Yields the documents of all files.

        Raises:
          UserError: a file cannot be read, is cut short, is not UTF-8, or a line lacks the text; names file and line.
        """
        for path in self.paths:
            yield from self._file_documents(path)

    @property
    def size(self) -> int:
        """Bytes of all files, as they lie on disk."""
        return sum(path.stat().st_size for path in self.paths)

    def provenance(self) -> dict[str, Any]:
        """Returns each file's name, size and sha256, and how documents were made of them."""
        files = [{"name": str(path), "size": path.stat().st_size, "sha256": _sha256(path)} for path in self.paths]
        return {"files": files, "text_field": self.text_field, "unit": self.unit}

    def _file_documents(self, path: Path) -> Iterator[Document]:
        before = 0
        with _opened(path) as raw:
            for text in self._texts(path, raw):
                # Where the file on disk is read to, decompressed or not.
                position = raw.tell()
                if text:
                    yield Document(text, text, position - before)
                    before = position

    def _texts(self, path: Path, raw: IO[bytes]) -> Iterator[str]:
        compressed = path.name.endswith(".gz")
        lines = _lines(path, gzip.GzipFile(fileobj=raw) if compressed else raw)
        if path.name.endswith((".jsonl", ".jsonl.gz")):
            return (_json_text(path, number, line, self.text_field) for number, line in lines if line.strip())
        decoded = (_decode(path, number, line) for number, line in lines)
        if self.unit == "file":
            return iter(["".join(decoded)])
        if self.unit == "line":
            return (line.rstrip("\r\n") for line in decoded)
        return _paragraphs(decoded)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _lines(path: Path, file: IO[bytes] | gzip.GzipFile) -> Iterator[tuple[int, bytes]]:
    """Yields (line number, line with its end)."""
    number = 0
    try:
        for number, line in enumerate(file, 1):
            yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}:{number + 1}: the gzip file is cut short or damaged: {error}") from None
    except OSError as error:
        raise UserError(f"{path}:{number + 1}: cannot be read: {error.strerror or error}") from None


def _decode(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(f"{path}:{number}: not UTF-8: byte 0x{byte:02x} at offset {error.start} of the line") from None


def _json_text(path: Path, number: int, line: bytes, field: str) -> str:
    try:
        record = json.loads(_decode(path, number, line))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}:{number}: not JSON: {error}") from None
    if not isinstance(record, dict):
        raise UserError(f"{path}:{number}: expected a JSON object, found {type(record).__name__}")
    if field not in record:
        raise UserError(f"{path}:{number}: no field {field!r}{nearest(field, record)}")
    text = record[field]
    if not isinstance(text, str):
        raise UserError(f"{path}:{number}: field {field!r} is {type(text).__name__}, expected a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{path}:{number}: field {field!r}: lone surrogate at character {error.start}") from None
    return text


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "".join(paragraph).rstrip("\r\n")
            paragraph = []
    yield "".join(paragraph).rstrip("\r\n")


def _sha256(path: Path) -> str:
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

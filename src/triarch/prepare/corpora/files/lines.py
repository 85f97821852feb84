"""Lines out of plain, gzip and zstandard files."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import IO

import zstandard

from triarch.errors import UserError
from triarch.prepare.corpora.documents import BadRecordError

_CHUNK = 2**20
# Compressed bytes at a time: of a bomb, four become 128 KiB.
_SLICE = 2**10
# What `zstd --long=31` writes.
_MAX_WINDOW = 2**31
# Of a line, and of a document of lines: a small file may unpack to one that no memory holds.
MOST_BYTES = 2**30
_BYTE_ORDER_MARK = "\ufeff".encode()
_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError)


# Number from 1, offset of its first byte in the decompressed text, the line with its end.
Line = tuple[int, int, bytes]


def numbered_lines(path: str, raw: IO[bytes]) -> Iterator[Line]:
    """Yields the lines of the file `path`, open as `raw`, without a byte order mark.

    Of a line longer than `MOST_BYTES` comes a little more than that, which `check_length` refuses; memory for the rest
    is not needed.

    Raises:
      BadRecordError: it is cut short or damaged; names the line.
      UserError: it cannot be read.
    """
    kind, file = _decompressed(path, raw)
    number = start = 0
    try:
        while line := file.readline(MOST_BYTES + 1):
            if not start and line.startswith(_BYTE_ORDER_MARK):
                line, start = line.removeprefix(_BYTE_ORDER_MARK), len(_BYTE_ORDER_MARK)
            number, length, held = number + 1, len(line), [line]
            is_cut = length > MOST_BYTES and not line.endswith(b"\n")
            # One of 100 MB need not stay while its text is at work.
            del line
            yield number, start, held.pop()
            start += length
            while is_cut and (rest := file.readline(_CHUNK)):
                start += len(rest)
                is_cut = not rest.endswith(b"\n")
    except _DAMAGE as error:
        message = f"the {kind} file is cut short or damaged: {error}"
        raise BadRecordError("damaged file", f"{path}:{number + 1}", message) from None
    except OSError as error:
        # Never left out: a store that does not answer is no bad record.
        raise UserError(f"{path}:{number + 1}: cannot be read: {error.strerror or error}") from None


def is_too_long(num_bytes: int) -> bool:
    """Whether so many bytes are more than a line or document may have."""
    return num_bytes > MOST_BYTES


def check_length(path: str, number: int, num_bytes: int) -> None:
    """Raises BadRecordError if a line, or a document that begins with it, has more than `MOST_BYTES`."""
    if is_too_long(num_bytes):
        raise BadRecordError("too long", f"{path}:{number}", f"longer than {MOST_BYTES:,} bytes")


def decoded(path: str, number: int, line: bytes) -> str:
    """Returns the line's text.

    Raises:
      BadRecordError: it is not UTF-8.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise undecodable(path, number, error) from None


def undecodable(path: str, first: int, error: UnicodeDecodeError) -> BadRecordError:
    """Returns what `error` says of bytes that begin with the line `first`, naming the line that is not UTF-8."""
    content, offset = error.object, error.start
    start = content.rfind(b"\n", 0, offset) + 1
    number = first + content.count(b"\n", 0, start)
    message = f"not UTF-8: byte 0x{content[offset]:02x} at offset {offset - start} of the line"
    return BadRecordError("not UTF-8", f"{path}:{number}", message)


def _decompressed(path: str, raw: IO[bytes]) -> tuple[str, IO[bytes] | gzip.GzipFile]:
    if path.endswith(".gz"):
        return "gzip", gzip.GzipFile(fileobj=raw)
    if path.endswith(".zst"):
        return "zstandard", io.BufferedReader(_ZstandardReader(raw), _CHUNK)
    return "plain", raw


class _ZstandardReader(io.RawIOBase):
    """Decompresses frame after frame; unlike the library's own stream reader it tells a cut frame from the end."""

    def __init__(self, raw: IO[bytes]):
        self._raw = raw
        self._ready = b""
        self._packed = b""
        self._position = 0
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._ready:
            if not self._fill():
                return 0
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _fill(self) -> bool:
        """Decompresses some more; returns whether there was more."""
        if self._position == len(self._packed):
            self._packed, self._position = self._raw.read(_CHUNK), 0
        piece = self._packed[self._position : self._position + _SLICE]
        if not piece:
            if self._frame is not None:
                raise EOFError("the file ended inside a frame")
            return False
        if self._frame is None:
            self._frame = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).decompressobj()
        self._ready = self._frame.decompress(piece)
        self._position += len(piece)
        if self._frame.eof:
            self._position -= len(self._frame.unused_data)
            self._frame = None
        return True

"""Strategies that make bad files out of good ones, knowing how they are built."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

Inputs = Callable[[bytes], st.SearchStrategy[bytes]]

_MOST_PLACES = 400
EXTREMES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 2**16, 2**31, 2**63, 2**64, -(2**63) - 1, 10**15, 10**30, 10**400),
    *(0.5, -0.0, 1e-320, 1e308, float("inf"), float("-inf"), float("nan")),
    *("", " ", "a", "0", "-1", "null", "\x00", "\ud800", "\ufeff", "\u2028", "é" * 300, "x" * 10_000),
    *("../../etc/passwd", "/dev/null", ".", "bytes", "pickle", "float32", "int8", "1e999", "true"),
    *([], {}, [[]], [None], [0], [-1], [1, "a"], {"a": None}, {"": {}}, [[[[[]]]]], {"type": "Unknown"}),
)
# What stands in text where nobody expects it.
_TOKENS = (
    *(b"[" * 20_000, b'{"a":' * 20_000, b"9" * 5_000, b"1e999", b"NaN", b"-Infinity", b"\\ud800", b"\\u0000", b"null"),
    *(b"\x00", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\r", b"\n\n", b"\t", b'"', b"'", b",", b";", b"}"),
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes, tokens: Sequence[bytes] = _TOKENS) -> bytes:
    """Changes bytes as disks, networks and editors do: cut, flipped, lost, repeated, zeroed, inserted."""
    kind = draw(st.sampled_from(("flip", "cut", "insert", "lose", "repeat", "zero", "byte")))
    start = draw(st.integers(0, max(0, len(content) - 1)))
    length = draw(st.sampled_from((1, 2, 8, 64, 1024)))
    part = content[start : start + length]
    if kind == "cut":
        return content[:start]
    if kind == "insert":
        return content[:start] + draw(st.sampled_from(tokens)) + content[start:]
    if kind == "lose":
        return content[:start] + content[start + length :]
    if kind == "repeat":
        return content[:start] + part * draw(st.integers(2, 5)) + content[start + length :]
    if kind == "zero":
        return content[:start] + bytes(len(part)) + content[start + length :]
    if not content:
        return draw(st.binary(max_size=8))
    new = content[start] ^ (1 << draw(st.integers(0, 7))) if kind == "flip" else draw(st.integers(0, 255))
    return content[:start] + bytes([new]) + content[start + 1 :]


def any_bytes(content: bytes) -> st.SearchStrategy[bytes]:
    """Returns the content damaged one to three times, or other bytes altogether."""
    once = damaged(content)
    return st.one_of(once, once.flatmap(damaged), once.flatmap(damaged).flatmap(damaged), st.binary(max_size=100))


def json_files(content: bytes) -> st.SearchStrategy[bytes]:
    """Returns JSON with one to three values that do not belong there; now and then damaged, or no JSON."""
    edited = _edited(json.loads(content)).map(_dumped)
    return st.one_of(edited, edited, edited.flatmap(damaged), any_bytes(content))


def json_lines(content: bytes) -> st.SearchStrategy[bytes]:
    """Returns JSON lines of which one is changed as `json_files` changes a file, or lines that are out of order."""
    lines = content.splitlines()

    def one(number: int) -> st.SearchStrategy[bytes]:
        changed = json_files(lines[number])
        return changed.map(lambda line: b"\n".join([*lines[:number], line, *lines[number + 1 :]]) + b"\n")

    return st.one_of(st.integers(0, len(lines) - 1).flatmap(one), text_files()(content))


def text_files(*words: str) -> Inputs:
    """Returns a strategy for text of lines: some lost, repeated or swapped, words replaced by others or by `words`."""
    known = [word.encode() for word in words]

    @st.composite
    def inputs(draw: st.DrawFn, content: bytes) -> bytes:
        lines = content.split(b"\n")
        for _ in range(draw(st.integers(1, 3))):
            place = draw(st.integers(0, len(lines) - 1))
            kind = draw(st.sampled_from(("lose", "repeat", "swap", "word", "word", "insert", "damage")))
            line = lines[place]
            if kind == "lose":
                line_or_none = []
            elif kind == "repeat":
                line_or_none = [line] * 3
            elif kind == "swap":
                line_or_none = [draw(st.sampled_from(lines))]
            elif kind == "insert":
                line_or_none = [line, draw(st.sampled_from([*known, *_TOKENS]))]
            elif kind == "word":
                parts = line.split(b" ")
                parts[draw(st.integers(0, len(parts) - 1))] = draw(st.sampled_from([*known, *_TOKENS]))
                line_or_none = [b" ".join(parts)]
            else:
                line_or_none = [draw(damaged(line))]
            lines[place : place + 1] = line_or_none
            lines = lines or [b""]
        return b"\n".join(lines)

    return lambda content: st.one_of(inputs(content), any_bytes(content))


def tables(delimiter: str) -> Inputs:
    """Returns a strategy for delimited text with cells that do not belong there."""
    cells = [str(value) for value in EXTREMES if isinstance(value, str | int | float)] + ['"', "1,000", "3.5B", "N/A"]

    @st.composite
    def inputs(draw: st.DrawFn, content: bytes) -> bytes:
        rows = [line.split(delimiter) for line in content.decode().splitlines()]
        for _ in range(draw(st.integers(1, 4))):
            row = draw(st.sampled_from(rows))
            if row:
                row[draw(st.integers(0, len(row) - 1))] = draw(st.sampled_from(cells))
        return "\n".join(delimiter.join(row) for row in rows).encode(errors="surrogatepass")

    return lambda content: st.one_of(inputs(content), text_files()(content))


def safetensors_files(content: bytes) -> st.SearchStrategy[bytes]:
    """Returns safetensors files whose header is changed as `json_files` does, its length fitting or not."""
    length = struct.unpack("<Q", content[:8])[0]
    header, data = content[8 : 8 + length], content[8 + length :]

    def packed(header: bytes) -> st.SearchStrategy[bytes]:
        lengths = st.sampled_from((len(header), len(header), len(header), 0, 1, 2**63, 2**64 - 1, len(header) + 10**6))
        return lengths.map(lambda length: struct.pack("<Q", length) + header + data)

    return st.one_of(json_files(header).flatmap(packed), any_bytes(content))


def _places(value: Any, before: tuple = ()) -> Iterator[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*before, key)
        yield from _places(item, (*before, key))


@st.composite
def _edited(draw: st.DrawFn, value: Any) -> Any:
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))[:_MOST_PLACES]
        if not places:
            return draw(st.sampled_from(EXTREMES))
        *parents, key = draw(st.sampled_from(places))
        owner = value
        for parent in parents:
            owner = owner[parent]
        kind = draw(st.sampled_from(("extreme", "extreme", "extreme", "drop", "other", "rename", "same kind")))
        if kind == "drop":
            del owner[key]
        elif kind == "rename" and isinstance(owner, dict):
            owner[draw(st.sampled_from(("", "x", f"{key} ", str(key).upper(), "\x00")))] = owner.pop(key)
        elif kind == "other":
            owner[key] = copy.deepcopy(_at(value, draw(st.sampled_from(places))))
        elif kind == "same kind" and isinstance(owner[key], int | float) and abs(owner[key]) < 1e300:
            owner[key] = owner[key] * draw(st.sampled_from((-1, 2, 10, 0.5))) + draw(st.sampled_from((0, 1, -1)))
        else:
            owner[key] = draw(st.sampled_from(EXTREMES))
        # A copy: extremes are shared, and are not to be changed.
        value = json.loads(_dumped(value))
    return value


def _at(value: Any, place: tuple) -> Any:
    for key in place:
        if not isinstance(value, dict | list):
            return None
        value = value[key]
    return value


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()

"""Local text: every document, and a line for whatever is wrong."""

import gzip
import hashlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tasks.texts import HARD_TEXTS
from triarch.errors import UserError
from triarch.tasks.local_files import LocalFiles

POEM = "one\ntwo\r\n\n\n  three \n \nfour"


def _texts(*paths, **options):
    return [document.text for document in LocalFiles(paths, **options).documents()]


def _write(path, data):
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("file", [POEM]),
        ("line", ["one", "two", "  three ", " ", "four"]),
        ("paragraph", ["one\ntwo", "  three ", "four"]),
    ],
)
def test_text_files(tmp_path, suffix, unit, expected):
    assert _texts(_write(tmp_path / f"poem{suffix}", POEM), unit=unit) == expected


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_json_lines(tmp_path, suffix):
    records = [{"body": text, "other": 1} for text in HARD_TEXTS]
    lines = [json.dumps(record, ensure_ascii=bool(index % 2)) for index, record in enumerate(records)]
    path = _write(tmp_path / f"corpus{suffix}", "\n\n".join(lines))
    assert _texts(path, text_field="body") == [text for text in HARD_TEXTS if text]


def test_concatenated_gzip_members(tmp_path):
    path = tmp_path / "two.txt.gz"
    path.write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert _texts(path) == ["one\ntwo\n"]


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_file_comes_back_exactly(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "file.txt"
    path.write_bytes(text.encode())
    assert _texts(path) == [text]


def test_progress_adds_up_to_the_size(tmp_path):
    paths = [
        _write(tmp_path / "a.txt", POEM),
        _write(tmp_path / "b.jsonl", '{"text": "x"}\n' * 100),
        _write(tmp_path / "c.jsonl.gz", '{"text": "x"}\n' * 100),
    ]
    corpus = LocalFiles(tuple(paths))
    assert corpus.size == sum(path.stat().st_size for path in paths)
    assert sum(document.progress for document in corpus.documents()) == corpus.size


def test_provenance(tmp_path):
    path = _write(tmp_path / "a.txt", "abc")
    file = {"name": str(path), "size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
    assert LocalFiles((path,)).provenance() == {"files": [file], "text_field": "text", "unit": "file"}


def test_patterns(tmp_path):
    names = ["b.txt", "a.txt", "sub/c.txt", "odd[1].txt"]
    (tmp_path / "sub").mkdir()
    for name in names:
        _write(tmp_path / name, name)

    def matching(*patterns):
        return [str(path.relative_to(tmp_path)) for path in LocalFiles.matching(patterns).paths]

    assert matching(f"{tmp_path}/*.txt") == ["a.txt", "b.txt", "odd[1].txt"]
    assert matching(f"{tmp_path}/b.txt", f"{tmp_path}/?.txt") == ["b.txt", "a.txt"]
    assert matching(f"{tmp_path}/**/c.txt") == ["sub/c.txt"]
    assert matching(f"{tmp_path}/odd[1].txt") == ["odd[1].txt"]
    with pytest.raises(UserError, match=r"nothing matches"):
        matching(f"{tmp_path}/*.jsonl")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": ', r":2: not JSON: "),
        ("a.jsonl.gz", '{"text": "x"}\n\nplain', r":3: not JSON: "),
        ("a.jsonl", '{"text": "x"}\n["x"]', r":2: expected a JSON object, found list"),
        ("a.jsonl", '{"texts": "x"}', r":1: no field 'text' \(did you mean 'texts'"),
        ("a.jsonl", '{"text": 3}', r":1: field 'text' is int, expected a string"),
        ("a.jsonl", '{"text": "x\\ud800"}', r":1: field 'text': lone surrogate at character 1"),
        ("a.jsonl", b'{"text": "\xff"}', r":1: not UTF-8: byte 0xff at offset 10 of the line"),
        ("a.jsonl", "[" * 100_000, r":1: not JSON: "),
        ("a.txt", b"fine\nfine\nab\xc3(", r":3: not UTF-8: byte 0xc3 at offset 2 of the line"),
        ("a.txt.gz", b"fine\n\x80", r":2: not UTF-8: byte 0x80 at offset 0 of the line"),
    ],
)
def test_bad_lines(tmp_path, name, data, message):
    path = _write(tmp_path / name, data)
    with pytest.raises(UserError, match=message) as error:
        _texts(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-9], lambda raw: b"plain text", lambda raw: raw[:500] + b"xxxx" + raw[504:]]
)
def test_damaged_gzip(tmp_path, damage):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(damage(gzip.compress(os.urandom(1000).hex().encode())))
    with pytest.raises(UserError, match=r"a\.txt\.gz:\d+: the gzip file is cut short or damaged"):
        _texts(path)


def test_damaged_gzip_names_the_line(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    raw = gzip.compress(b"".join(b'{"text": "%s"}\n' % os.urandom(30).hex().encode() for _ in range(1000)))
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(UserError) as error:
        _texts(path)
    assert 300 < int(str(error.value).split(":")[1]) < 700


def test_missing_files_and_unknown_kinds(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt: no such file"):
        LocalFiles((tmp_path / "none.txt",))
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(UserError, match=r"is a folder, expected a file"):
        LocalFiles((tmp_path / "folder.txt",))
    with pytest.raises(UserError, match=r"a\.csv: expected a file named \*\.txt"):
        LocalFiles((_write(tmp_path / "a.csv", "x"),))
    with pytest.raises(UserError, match=r"unknown unit \(did you mean 'line'"):
        LocalFiles((), unit="lines")


def test_unreadable_file(tmp_path):
    path = _write(tmp_path / "a.txt", "x")
    corpus = LocalFiles((path,))
    path.unlink()
    with pytest.raises(UserError, match=r"a\.txt: cannot be read: No such file"):
        list(corpus.documents())

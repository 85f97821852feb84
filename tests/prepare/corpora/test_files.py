"""Files: every document, and a line for whatever is wrong."""

import dataclasses
import gzip
import hashlib
import json
import os
import re
import tracemalloc
import zlib
from pathlib import Path

import fsspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.tokenizers.texts import HARD_TEXTS
from triarch.errors import UserError
from triarch.prepare.corpora.documents import Document, LeftOut
from triarch.prepare.corpora.files import Files, lines

POEM = "one\ntwo\r\n\n\n  three \n \nfour"


def _records(*paths, **options):
    return list(Files(tuple(map(str, paths)), **options).documents())


def _texts(*paths, **options):
    return [document.text for document in _records(*paths, **options) if isinstance(document, Document)]


def _packed(name, data):
    data = data.encode() if isinstance(data, str) else data
    if name.endswith(".gz"):
        return gzip.compress(data)
    return zstandard.compress(data) if name.endswith(".zst") else data


def _write(path, data):
    path.write_bytes(_packed(path.name, data))
    return path


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("file", ["one\ntwo\n\n\n  three \n \nfour"]),
        ("line", ["one", "two", "  three ", " ", "four"]),
        ("paragraph", ["one\ntwo", "  three ", "four"]),
    ],
)
def test_text_files(tmp_path, suffix, unit, expected):
    assert _texts(_write(tmp_path / f"poem.txt{suffix}", POEM), unit=unit) == expected


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".jsonl.gz", ".json.zst"])
def test_json_lines(tmp_path, suffix):
    records = [{"body": text, "other": 1} for text in HARD_TEXTS]
    lines = [json.dumps(record, ensure_ascii=bool(index % 2)) for index, record in enumerate(records)]
    path = _write(tmp_path / f"corpus{suffix}", "\n\n".join(lines))
    assert _texts(path, text_field="body") == [text for text in HARD_TEXTS if text]


def test_concatenated_gzip_members(tmp_path):
    path = tmp_path / "two.txt.gz"
    path.write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert _texts(path) == ["one\ntwo\n"]


@given(parts=st.lists(st.binary(max_size=3000), max_size=5), chunk=st.integers(1, 500))
def test_zstandard_frames(tmp_path_factory, parts, chunk):
    """Any number of frames, cut anyhow by the reader."""
    path = tmp_path_factory.mktemp("frames") / "frames.txt.zst"
    path.write_bytes(b"".join(zstandard.compress(part) for part in parts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_CHUNK", chunk)
        with path.open("rb") as raw:
            assert b"".join(line for _, _, line in lines.numbered_lines(str(path), raw)) == b"".join(parts)


def test_long_zstandard_windows(tmp_path):
    """As `zstd --long=31` writes them, and RedPajama's Common Crawl has them."""
    options = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    path = tmp_path / "long.txt.zst"
    compressor = zstandard.ZstdCompressor(compression_params=options).compressobj()
    path.write_bytes(compressor.compress(b"one\n" * 1000) + compressor.flush())
    assert _texts(path, unit="line") == ["one"] * 1000


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_file_comes_back_exactly(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "file.txt"
    path.write_bytes(text.encode())
    expected = text.removeprefix("\ufeff").replace("\r\n", "\n")
    assert _texts(path) == [expected] * bool(expected)


def test_progress_adds_up_to_the_size(tmp_path):
    paths = [
        _write(tmp_path / "a.txt", POEM),
        _write(tmp_path / "b.jsonl", '{"text": "x"}\n' * 100),
        _write(tmp_path / "c.jsonl.gz", '{"text": "x"}\n' * 100),
    ]
    corpus = Files(tuple(map(str, paths)))
    assert corpus.size == sum(path.stat().st_size for path in paths)
    assert sum(document.progress for document in corpus.documents()) == corpus.size


def test_provenance(tmp_path):
    path = _write(tmp_path / "a.txt", "abc")
    file = {"name": str(path), "size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
    assert Files((str(path),)).provenance() == {"files": [file], "text_field": "text", "unit": "file"}


def test_patterns(tmp_path):
    names = ["b.txt", "a.txt", "sub/c.txt", "odd[1].txt"]
    (tmp_path / "sub").mkdir()
    for name in names:
        _write(tmp_path / name, name)

    def matching(*patterns):
        return [str(Path(path).relative_to(tmp_path)) for path in Files.matching(patterns).paths]

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
        ("a.jsonl", "[" * 100_000, r":1: JSON nested too deeply to be read"),
        ("a.jsonl", f'{{"text": {"9" * 5000}}}', r":1: field 'text' is int, expected a string"),
        ("a.jsonl", '{"text": NaN}', r":1: field 'text' is float, expected a string"),
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


def test_a_name_that_is_not_utf8(tmp_path):
    _write(tmp_path / os.fsdecode(b"caf\xe9.txt"), "text")
    with pytest.raises(UserError, match=r"caf\\udce9\.txt': its name is not UTF-8, .*: rename it"):
        Files.matching([str(tmp_path)])


def test_missing_files_and_unknown_kinds(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt: no such file"):
        Files((str(tmp_path / "none.txt"),))
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(UserError, match=r"is a folder, expected a file"):
        Files((str(tmp_path / "folder.txt"),))
    with pytest.raises(UserError, match=r"a\.csv: expected a file named \*\.txt"):
        Files((str(_write(tmp_path / "a.csv", "x")),))
    with pytest.raises(UserError, match=r"unknown unit \(did you mean 'line'"):
        Files((), unit="lines")


def test_unreadable_file(tmp_path):
    path = _write(tmp_path / "a.txt", "x")
    corpus = Files((str(path),))
    path.unlink()
    with pytest.raises(UserError, match=r"a\.txt: cannot be read: No such file"):
        list(corpus.documents())


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-1], lambda raw: raw[:500] + b"xxxx" + raw[504:], lambda raw: b"x"]
)
def test_damaged_zstandard(tmp_path, damage):
    path = tmp_path / "a.txt.zst"
    # As the program zstd does, with a checksum.
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    path.write_bytes(damage(compressor.compress(os.urandom(1000).hex().encode())))
    with pytest.raises(UserError, match=r"a\.txt\.zst:\d+: the zstandard file is cut short or damaged"):
        _texts(path)


BAD_LINES = b"""{"text": "first"}
{"text": "cut
["a list"]
{"texts": "misnamed"}
{"text": 3}
{"text": null}
{"text": "\\ud800"}
{"text": "\xff"}
{"text": ""}
{"text": "NUL \\u0000 is text"}
"""


def test_bad_records_are_counted_where_the_user_asks(tmp_path):
    path = _write(tmp_path / "a.jsonl", BAD_LINES)
    records = _records(path, skip_bad_records=True)
    assert _texts(path, skip_bad_records=True) == ["first", "NUL \0 is text"]
    left_out = [(record.reason, int(record.place.rsplit(":")[-1])) for record in records if isinstance(record, LeftOut)]
    reasons = [
        "not JSON",
        "not an object",
        "field missing",
        "not a string",
        "not a string",
        "lone surrogate",
        "not UTF-8",
    ]
    assert left_out == list(zip([*reasons, "empty"], range(2, 10), strict=True))
    assert sum(record.progress for record in records) == path.stat().st_size


def test_what_comes_before_a_cut_is_kept_where_the_user_asks(tmp_path):
    text = "".join(f'{{"text": "{os.urandom(30).hex()}"}}\n' for _ in range(1000))
    for name in ("a.jsonl.gz", "a.jsonl.zst"):
        (tmp_path / name).write_bytes(_packed(name, text)[:-100])
        after = _write(tmp_path / "b.jsonl", '{"text": "after"}')
        records = _records(tmp_path / name, after, skip_bad_records=True)
        kept = [record.text for record in records if isinstance(record, Document)]
        assert kept[:-1] == [json.loads(line)["text"] for line in text.splitlines()[: len(kept) - 1]]
        assert kept[-1] == "after" and (name.endswith(".zst") or len(kept) > 900)
        assert [record.reason for record in records if isinstance(record, LeftOut)] == ["damaged file"]


@pytest.mark.parametrize(("unit", "expected"), [("line", ["one", "three"]), ("paragraph", ["three"]), ("file", [])])
def test_bad_text_is_left_out_by_its_unit(tmp_path, unit, expected):
    path = _write(tmp_path / "a.txt", b"one\n\xff\n\nthree\n")
    records = _records(path, unit=unit, skip_bad_records=True)
    assert [record.text for record in records if isinstance(record, Document)] == expected
    places = [record.place for record in records if isinstance(record, LeftOut) and record.reason == "not UTF-8"]
    assert places == [f"{path}:2"]


def test_a_document_of_100_megabytes(tmp_path):
    line = b'{"text": "' + b"word " * (20 * 2**20) + b'"}\n'
    path = _write(tmp_path / "a.jsonl", line + b'{"text": "next"}\n')
    sizes = [len(text) for text in _texts(path)]
    assert sizes == [100 * 2**20, 4]


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.txt.gz", "a.txt.zst"])
@pytest.mark.parametrize("unit", ["file", "line", "paragraph"])
def test_a_byte_order_mark_is_no_text(tmp_path, name, unit):
    text = '{"text": "x"}' if name == "a.jsonl" else "x\ufeff"
    (record,) = _records(_write(tmp_path / name, f"\ufeff{text}"), unit=unit)
    assert record.text == ("x" if name == "a.jsonl" else "x\ufeff")
    # It is left out of the document's bytes too.
    assert record.origin == (str(tmp_path / name), 1, 3, 3 + len(text.encode()))


def test_windows_line_ends_become_others_bytes_stay(tmp_path):
    path = _write(tmp_path / "a.txt", "a\r\nb\r\n\r\nc\rd\r\n")
    records = _records(path, unit="paragraph")
    assert [(record.text, record.origin[1:]) for record in records] == [("a\nb", (1, 0, 4)), ("c\rd", (4, 8, 11))]
    (whole,) = _records(path)
    assert (whole.text, whole.origin[1:]) == ("a\nb\n\nc\rd\n", (1, 0, 13))


def test_fields_nobody_asks_for_do_not_matter(tmp_path):
    strange = ["9" * 5000, "-" + "1" * 99_999, "NaN", "-Infinity", "1e999", '"\\ud800"', "[" * 500 + "]" * 500]
    path = _write(tmp_path / "a.jsonl", "".join(f'{{"id": {value}, "text": "x"}}\n' for value in strange))
    assert _texts(path) == ["x"] * len(strange)
    deep = _write(tmp_path / "b.jsonl", '{"text": "x", "other": ' + "[" * 100_000 + "]" * 100_000 + '}\n{"text": "y"}')
    first, second = _records(deep, skip_bad_records=True)
    assert (first.reason, second.text) == ("nested too deeply", "y")


def _bomb(name, size):
    """A line of `size` letters between two short paragraphs, packed in a few bytes a megabyte."""
    blocks = [b"first\n\n", *[b"x" * 2**20] * (size // 2**20), b"\n\nlast\n"]
    packer = zlib.compressobj(wbits=31) if name.endswith(".gz") else zstandard.ZstdCompressor().compressobj()
    return b"".join(map(packer.compress, blocks)) + packer.flush()


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst"])
@pytest.mark.parametrize(
    ("unit", "kept"), [("line", ["first", "last"]), ("paragraph", ["first", "last"]), ("file", [])]
)
def test_a_bomb_is_a_bad_record_in_little_memory(tmp_path, monkeypatch, name, unit, kept):
    monkeypatch.setattr(lines, "MOST_BYTES", 2**20)
    path = tmp_path / name
    # A kilobyte of zstandard may be 32 MB.
    size, most = (32, 16) if name.endswith(".gz") else (128, 80)
    path.write_bytes(_bomb(name, size * 2**20))
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    records = _records(path, unit=unit, skip_bad_records=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most * 2**20
    assert [record.text.strip() for record in records if isinstance(record, Document)] == kept
    number = 1 if unit == "file" else 3
    long = [(record.reason, record.place) for record in records if isinstance(record, LeftOut)]
    assert ("too long", f"{path}:{number}") in long
    with pytest.raises(UserError, match=rf"{name}:{number}: longer than 1,048,576 bytes"):
        _records(path, unit=unit)


def test_inputs_and_targets(tmp_path):
    path = _write(tmp_path / "a.jsonl", '{"q": "1 + 1", "a": "2"}\n{"q": "2", "a": ""}\n{"a": "3"}\n')
    first, empty, bad = _records(path, text_field="a", inputs_field="q", skip_bad_records=True)
    assert (first.inputs, first.text, first.whole, first.key) == ("1 + 1", "2", "1 + 1\n2", "1 + 1\n2")
    assert first.origin == (str(path), 1, 0, 24)
    assert (empty.reason, bad.reason) == ("empty", "field missing")


@pytest.fixture
def bucket():
    store = fsspec.filesystem("memory")
    yield store
    if store.exists("/bucket"):
        store.rm("/bucket", recursive=True)


def test_remote_files_are_as_local_ones(tmp_path, bucket):
    contents = {
        "a/train-0.jsonl": '{"text": "one"}\n',
        "a/train-1.jsonl.gz": '{"text": "two"}\n',
        "a/deep/train-2.txt.zst": "three",
        "a/validation-0.jsonl": '{"text": "held out"}',
        "a/README.md": "# not data",
    }
    for name, text in contents.items():
        bucket.pipe(f"/bucket/{name}", _packed(name, text))
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        _write(tmp_path / name, text)

    def read(root, pattern):
        corpus = Files.matching([f"{root}/{pattern}"])
        assert corpus.size == sum(file["size"] for file in corpus.provenance()["files"])
        assert all(path.startswith(str(root)) for path in corpus.paths)
        return [document.text for document in corpus.documents()]

    for pattern, expected in {
        "a": ["three", "one", "two"],
        "a/*.jsonl*": ["one", "two", "held out"],
        "a/**/*.zst": ["three"],
        "a/train-1.jsonl.gz": ["two"],
    }.items():
        assert read("memory:///bucket", pattern) == read(tmp_path, pattern) == expected
    assert read(f"file://{tmp_path}", "a/train-0.jsonl") == ["one"]


def test_what_cannot_be_reached(bucket):
    with pytest.raises(UserError, match=r"memory://bucket/x/\*: no such file, and nothing matches"):
        Files.matching(["memory://bucket/x/*"])
    with pytest.raises(UserError, match=r"nowhere://bucket: cannot be reached: Protocol not known: nowhere"):
        Files.matching(["nowhere://bucket"])
    with pytest.raises(UserError, match=r"memory://bucket/x\.txt: cannot be read"):
        list(Files(("memory://bucket/x.txt",)).documents())


def test_the_version_changes_with_the_file(tmp_path, bucket):
    bucket.pipe("/bucket/a.txt", b"one")
    path = _write(tmp_path / "a.txt", "one")
    corpora = [Files((str(path),)), Files(("memory://bucket/a.txt",))]
    versions = [corpus.version for corpus in corpora]
    assert versions == [corpus.version for corpus in corpora]
    assert versions == [dataclasses.replace(corpus, skip_bad_records=True).version for corpus in corpora]
    _write(path, "other")
    bucket.pipe("/bucket/a.txt", b"other")
    assert not {corpus.version for corpus in corpora} & set(versions)


def test_a_folder_without_data(tmp_path):
    _write(tmp_path / "dataset_info.json", "{}")
    with pytest.raises(UserError, match=rf"{re.escape(str(tmp_path))}: the folder holds no file named \*\.txt"):
        Files.matching([str(tmp_path)])


def test_a_bucket_without_its_library_says_what_to_install(monkeypatch):
    def url_to_fs(url):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    with pytest.raises(UserError, match=r"gs://bucket/\*.txt: cannot be reached: .*: pip install 'triarch\[gcs\]'"):
        Files.matching(["gs://bucket/*.txt"])

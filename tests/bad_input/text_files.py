"""Text, JSON lines, Parquet and packed files for `prepare` that cannot be read, and flags that do not fit them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet
import zstandard

from tests.bad_input.case import DAMAGES, Case, case, edited
from tests.bad_input.samples import TEXT

PREPARE = "prepare --task=files --output=new --vocabulary=bytes --window=32 --workers=1 --documents=line"
GOOD = '{"text": "A line of text that is long enough."}\n' * 20
# The 21st line of a JSON lines file, and what the answer must mention.
LINES = {
    "no JSON": ('{"text": "a"', "21"),
    "plain text": ("hello", "21"),
    "a list": ('["text"]', "21"),
    "a number": ("7", "21"),
    "null": ("null", "21"),
    "a text": ('"text"', "21"),
    "another field": ('{"txt": "a"}', "text"),
    "a number in the field": ('{"text": 7}', "text"),
    "null in the field": ('{"text": null}', "null"),
    "a list in the field": ('{"text": ["a"]}', "list"),
    "an object in the field": ('{"text": {"en": "a"}}', "dict"),
    "half a character": ('{"text": "\\ud83d"}', "surrogate"),
    "a trailing comma": ('{"text": "a",}', "21"),
    "single quotes": ("{'text': 'a'}", "21"),
    "two objects": ('{"text": "a"}{"text": "b"}', "21"),
    "a comment": ('// {"text": "a"}', "21"),
    "NULs": ("\x00" * 50, "21"),
    "a control character": ('{"text": "a\x01b"}', "21"),
    "an integer of 5,000 digits in the field": ('{"text": ' + "9" * 5000 + "}", "text"),
    "nested 100,000 deep": ('{"text": "a", "x": ' + "[" * 100_000 + "}", "21"),
    "a byte order mark in the middle": ('\ufeff{"text": "a"}', "21"),
    "a merge conflict": ("<<<<<<< HEAD", "21"),
}
FLAGS = (
    ("--files=nowhere.txt", "nowhere.txt"),
    ("--files='*.csv'", "text.csv"),
    ("--files=empty", "empty"),
    ("--files=", "--files"),
    ("--files=text.csv", "text.csv"),
    ("--files=text", "text"),
    ("--files=missing/text.txt", "missing"),
    ("", "--files"),
    ("--files=text.txt --text_field=", ""),
    ("--files=good.jsonl --text_field=content", "content"),
    ("--files=good.jsonl --inputs_field=inputs --layout=pairs", "inputs"),
    ("--files=text.txt --documents=word", "word"),
    ("--files=text.txt --documents=lines", "line"),
    ("--files=text.txt --layout=window", "window"),
    ("--files=text.txt --layout=pairs", "--inputs_field"),
    ("--files=text.txt --layout=packed_pairs", "--inputs_field"),
    ("--files=text.txt --window=0", "window"),
    ("--files=text.txt --window=-1", "window"),
    ("--files=text.txt --window=99999999999999", "window"),
    ("--files=text.txt --window=100000", "window"),
    ("--files=text.txt --window=99999999999999999999", "window"),
    ("--files=text.txt --validation_fraction=-0.1", "validation_fraction"),
    ("--files=text.txt --validation_fraction=nan", "validation_fraction"),
    ("--files=text.txt --validation_fraction=5", "validation_fraction"),
    ("--files=text.txt --workers=0", "workers"),
    ("--files=text.txt --workers=-1", "workers"),
    ("--files=text.txt --min_characters=-1", "min_characters"),
    ("--files=text.txt --max_characters=0", "max_characters"),
    ("--files=text.txt --max_characters=5 --min_characters=10", "characters"),
    ("--files=text.txt --min_characters=1000000", ""),
    ("--files=text.txt --runner=spark", "spark"),
    ("--files=text.txt --beam_option=runner=X", "--beam_option"),
    ("--files=text.txt --beam_folder=x", "--beam_folder"),
    ("--files=gs://", "gs://"),
    ("--files=ftpp://host/a.txt", "ftpp"),
)
TASKS = (
    ("--task=stdlib_cdoe", "stdlib_code"),
    ("--task=file --files=text.txt", "files"),
    ("--task=", ""),
    ("--task=c4_enn", "c4"),
    ("--task=redpajama_arxiv", "data_dir"),
    ("--task=redpajama_arxiv --data_dir=nowhere", "nowhere"),
    ("--task=c4_en --data_dir=empty", "empty"),
    ("--task=stdlib_code --files=text.txt", "--files"),
)


def cases() -> Iterator[Case]:
    """Yields the cases."""
    for flags, says in FLAGS:
        make = lambda folder: (folder.path / "empty").mkdir()  # noqa: E731
        files = {"good.jsonl": GOOD, "text.csv": "a,b\n", "text": "a"}
        yield case(f"prepare: {flags}", f"{PREPARE} {flags}", says, takes="text.txt", files=files, make=make)
    for flags, says in TASKS:
        command = f"prepare {flags} --output=new --vocabulary=bytes --window=32 --workers=1"
        make = lambda folder: (folder.path / "empty").mkdir()  # noqa: E731
        yield case(f"prepare: {flags}", command, says, takes="text.txt", make=make, tensorflow=True)
    for name, (line, says) in LINES.items():
        for suffix, packed in (("", lambda data: data), (".gz", gzip.compress)):
            file = f"lines.jsonl{suffix}"
            files = {file: packed((GOOD + line + "\n" + GOOD).encode())}
            yield case(f"{file}: {name}", f"{PREPARE} --files={file}", file, says, files=files)
    packed = {
        "gz": gzip.compress(GOOD.encode()),
        "zst": zstandard.ZstdCompressor(write_checksum=True).compress(GOOD.encode()),
    }
    for suffix, content in packed.items():
        file = f"lines.jsonl.{suffix}"
        for name, damage in DAMAGES.items():
            if (suffix, name) not in (("gz", "empty"), ("zst", "empty")):
                make = edited(file, damage)
                yield case(
                    f"{file} packed: {name}", f"{PREPARE} --files={file}", file, files={file: content}, make=make
                )
        make = edited(file, lambda content: content[:-3])
        yield case(f"{file}: 3 bytes short", f"{PREPARE} --files={file}", file, files={file: content}, make=make)
        flipped = lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:]  # noqa: E731
        yield case(
            f"{file}: a flipped bit",
            f"{PREPARE} --files={file}",
            file,
            files={file: content},
            make=edited(file, flipped),
        )
    for name, content in {
        "Latin-1": "café\n".encode("latin-1"),
        "UTF-16": TEXT.encode("utf-16"),
        "a cut character": "café".encode()[:-1],
        "a picture": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    }.items():
        command = f"{PREPARE} --files=text.txt"
        yield case(f"text.txt: {name}", command, "text.txt", files={"text.txt": content})
    for name in ("nothing", "blank lines"):
        content = "" if name == "nothing" else "\n\n\n"
        command = f"{PREPARE} --files=text.txt --documents=paragraph"
        yield case(f"text.txt: {name}", command, files={"text.txt": content})
    for name, column in {
        "numbers": pa.array([1, 2, 3]),
        "lists": pa.array([["a"], ["b"]]),
        "a null": pa.array(["a", None]),
        "bytes that are not UTF-8": pa.array([b"\xff"], pa.binary()),
    }.items():
        files = {"t.parquet": _parquet(text=column)}
        yield case(f"t.parquet: {name}", f"{PREPARE} --files=t.parquet", "t.parquet", files=files)
    files = {"t.parquet": _parquet(content=pa.array(["a"]))}
    yield case("t.parquet: another column", f"{PREPARE} --files=t.parquet", "t.parquet", "text", files=files)
    for name, damage in DAMAGES.items():
        files = {"t.parquet": _parquet(text=pa.array(["text"] * 50))}
        make = edited("t.parquet", damage)
        yield case(f"t.parquet: {name}", f"{PREPARE} --files=t.parquet", "t.parquet", files=files, make=make)
        files = {"t.arrow": _arrow()}
        make = edited("t.arrow", damage)
        yield case(f"t.arrow: {name}", f"{PREPARE} --files=t.arrow", "t.arrow", files=files, make=make)


def _parquet(**columns: pa.Array) -> bytes:
    file = io.BytesIO()
    pa.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def _arrow() -> bytes:
    table, file = pa.table({"text": ["text"] * 50}), io.BytesIO()
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()

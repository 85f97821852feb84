"""Parquet and Arrow, as pyarrow and Hugging Face's folders hold them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.tokenizers.texts import HARD_TEXTS
from triarch.errors import UserError
from triarch.prepare.corpora.documents import Document, LeftOut
from triarch.prepare.corpora.files import Files

KINDS = ["parquet", "arrow file", "arrow stream"]


def _write(folder, kind, table, name="data"):
    path = folder / f"{name}.{kind.split()[0]}"
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=7)
        return path
    writer = pa.ipc.new_file if kind == "arrow file" else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as file, writer(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=7)
    return path


def _records(path, **options):
    return list(Files((str(path),), **options).documents())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_rows_are_documents(tmp_path, kind, column):
    texts = [f"{text} {index}" for index, text in enumerate(HARD_TEXTS * 60)]
    table = pa.table({"id": range(len(texts)), "body": pa.array(texts).cast(column)})
    path = _write(tmp_path, kind, table)
    records = _records(path, text_field="body")
    assert [record.text for record in records] == texts
    assert Files((str(path),)).size == path.stat().st_size


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_targets(tmp_path, kind):
    table = pa.table({"targets": ["2", "4"], "task": ["sum"] * 2, "inputs": ["1 + 1", "2 + 2"]})
    records = _records(_write(tmp_path, kind, table), text_field="targets", inputs_field="inputs")
    assert [(record.inputs, record.text) for record in records] == [("1 + 1", "2"), ("2 + 2", "4")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"texts": ["x"]}), r"data\.\w+: no column 'text' \(did you mean 'texts'"),
        (pa.table({"text": [3]}), r"data\.\w+: column 'text' is int64, expected string"),
        (pa.table({"text": [["x"]]}), r"data\.\w+: column 'text' is list<.*>, expected string"),
        (pa.table({"text": ["x", None]}), r"data\.\w+:2: field 'text' is null, expected a string"),
    ],
)
def test_wrong_columns(tmp_path, kind, table, message):
    path = _write(tmp_path, kind, table)
    with pytest.raises(UserError, match=message) as error:
        _records(path)
    assert "\n" not in str(error.value)
    left_out = [record for record in _records(path, skip_bad_records=True) if isinstance(record, LeftOut)]
    assert len(left_out) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_not_utf8(tmp_path, kind):
    raw = pa.array([b"good", b"\xff", b""])
    table = pa.table({"text": pa.Array.from_buffers(pa.string(), 3, raw.buffers())})
    path = _write(tmp_path, kind, table)
    with pytest.raises(UserError, match=r"data\.\w+:2: not UTF-8"):
        _records(path)
    reasons = [getattr(record, "reason", "") for record in _records(path, skip_bad_records=True)]
    assert reasons == ["", "not UTF-8", "empty"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"junk" * 10, lambda raw: b""])
def test_damaged_tables(tmp_path, kind, damage):
    path = _write(tmp_path, kind, pa.table({"text": [str(number) for number in range(5000)]}))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"data\.\w+: cut short or damaged after row \d+: ") as error:
        _records(path)
    assert "\n" not in str(error.value)


def test_a_hugging_face_folder(tmp_path):
    """As a data set's repository holds it: splits by name, subsets by folder, other files beside."""
    for name, text in [("train-00000-of-00002", "a"), ("train-00001-of-00002", "b"), ("test-00000-of-00001", "c")]:
        _write(tmp_path / "data", "parquet", pa.table({"text": [text]}), name)
    (tmp_path / "README.md").write_text("# a card")
    (tmp_path / "dataset_infos.json").write_text("{}")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.json").write_text("{}")
    assert [record.text for record in Files.matching([str(tmp_path)]).documents()] == ["a", "b"]
    assert [record.text for record in Files.matching([f"{tmp_path}/data/test-*"]).documents()] == ["c"]


def test_what_save_to_disk_writes(tmp_path):
    _write(tmp_path / "train", "arrow stream", pa.table({"text": ["a"]}), "data-00000-of-00001")
    _write(tmp_path / "test", "arrow stream", pa.table({"text": ["b"]}), "data-00000-of-00001")
    (tmp_path / "train" / "state.json").write_text("{}")
    records = list(Files.matching([str(tmp_path)]).documents())
    assert all(isinstance(record, Document) for record in records) and [record.text for record in records] == ["a"]


def test_offsets_outside_the_file_are_damage(tmp_path):
    """pyarrow believes them, and reading such a text ends the process or yields memory that is another's."""
    path = _write(tmp_path, "arrow file", pa.table({"text": ["abc", "def"]}), "bad")
    offsets, wrong = (np.array([0, middle, 6], np.int32).tobytes() for middle in (3, 2**30))
    assert offsets in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(offsets, wrong))
    with pytest.raises(UserError, match=r"bad.arrow: cut short or damaged after row 0"):
        list(Files.matching([str(path)]).documents())

"""What is at a store's path is a whole store or nothing."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from tests.data.stores import numbered_windows, write_store
from triarch.data import partial
from triarch.data import writer as writers
from triarch.data.store import TokenStore
from triarch.data.writer import StoreWriter
from triarch.errors import UserError


def test_same_windows_same_bytes(tmp_path):
    windows = np.random.default_rng(0).integers(0, 100, (50, 16))
    first = write_store(tmp_path / "a", windows, file_tokens=160).path
    second = write_store(tmp_path / "b", windows, file_tokens=160).path
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir()) and len(names) == 7
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), StoreWriter(tmp_path / "store", 8, "uint16") as store:
        store.write("train", numbered_windows(4))
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_existing_store_is_kept_unless_told(tmp_path):
    path = write_store(tmp_path / "store", numbered_windows(3)).path
    with pytest.raises(UserError, match="exists already"):
        write_store(path, numbered_windows(5))
    assert len(TokenStore.open(path).split("train")) == 3
    assert len(write_store(path, numbered_windows(5), overwrite=True).split("train")) == 5
    assert list(tmp_path.iterdir()) == [path]


def test_overwriting_that_fails_keeps_the_old_store(tmp_path):
    path = write_store(tmp_path / "store", numbered_windows(3)).path
    with pytest.raises(KeyError), StoreWriter(path, 8, "uint16", overwrite=True) as store:
        store.write("train", numbered_windows(4))
        raise KeyError
    assert len(TokenStore.open(path).split("train")) == 3


def test_overwrite_never_removes_what_is_no_store(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("x")
    with pytest.raises(UserError, match="not a token store"):
        write_store(tmp_path / "thesis", numbered_windows(3), overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "x"


class _FullDisk:
    """An ArrayRecord writer on a disk with room for one record."""

    def __init__(self, path, options):
        Path(path).touch()
        self.records = 0

    def write(self, record):
        self.records += 1
        if self.records > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self):
        raise RuntimeError("UNKNOWN: writing failed: No space left on device")


def test_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(writers.array_record_module, "ArrayRecordWriter", _FullDisk)
    with pytest.raises(UserError, match=r"store: the disk is full") as error:
        write_store(tmp_path / "store", numbered_windows(4))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"store: the disk is full"):
        write_store(tmp_path / "store", numbered_windows(2)[:1])
    assert list(tmp_path.iterdir()) == []


def test_output_under_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        write_store(tmp_path / "file" / "store", numbered_windows(2))


_KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from triarch.data.writer import StoreWriter
with StoreWriter(Path(sys.argv[1]), 8, "uint16", overwrite=True) as store:
    store.write("train", np.zeros((1000, 8), np.int32))
    store.finish_files("train")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_no_store_and_the_next_one_tidies(tmp_path):
    path = tmp_path / "store"
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(path)])
    assert killed.returncode == -9
    assert {found.name for found in tmp_path.iterdir()} == {".store.partial", ".store.lock"}
    with pytest.raises(UserError, match="no such token store"):
        TokenStore.open(path)
    write_store(path, numbered_windows(2))
    assert list(tmp_path.iterdir()) == [path]


def test_a_store_set_aside_by_a_killed_writer_comes_back(tmp_path):
    """Killed between moving the old store away and the new one in: the old one is not lost."""
    path = write_store(tmp_path / "store", numbered_windows(3)).path
    path.rename(tmp_path / ".store.replaced")
    with pytest.raises(UserError, match="exists already"):
        write_store(path, numbered_windows(4))
    assert len(TokenStore.open(path).split("train")) == 3


def test_one_writer_at_a_time(tmp_path):
    with (
        StoreWriter(tmp_path / "store", 8, "uint16"),
        pytest.raises(UserError, match=r"store: another process is writing it"),
        StoreWriter(tmp_path / "store", 8, "uint16"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


_INTERRUPTED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from triarch.data import writer
from triarch.data.writer import StoreWriter
output, first, kill_at, job = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
writer._FILE_ROWS = 11
with StoreWriter(output, 4, "uint16", file_tokens=40, job=job) as store:
    start = (store.state or {"next": first})["next"]
    print(start, flush=True)
    for number in range(start, 60):
        split = ("train", "validation")[number % 7 == 0]
        store.write(split, np.full((3, 4), number))
        store.write_documents(split, np.full((2, 7), number) * [0, 1, 1, 1, 1, 1, 1], [f"file {number // 7}"])
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if number % 5 == 0:
            store.checkpoint({"next": number + 1})
"""


def _run(output, kill_at, job="job"):
    arguments = [sys.executable, "-c", _INTERRUPTED, str(output), "0", str(kill_at), job]
    return subprocess.run(arguments, capture_output=True, text=True)


def test_an_interrupted_writer_goes_on_where_it_was(tmp_path, monkeypatch):
    """Killed again and again, between and after files, it holds the same examples in the same files."""
    output = tmp_path / "store"
    starts = []
    for kill_at in (3, 13, 14, 40, 59):
        result = _run(output, kill_at)
        assert result.returncode == -9
        starts.append(int(result.stdout))
    assert starts == [0, 1, 11, 11, 36]
    monkeypatch.setattr(writers, "_FILE_ROWS", 11)
    with StoreWriter(output, 4, "uint16", file_tokens=40, job="job") as store:
        assert store.state == {"next": 56}
        for number in range(56, 60):
            split = ("train", "validation")[number % 7 == 0]
            store.write(split, np.full((3, 4), number))
            store.write_documents(split, np.full((2, 7), number) * [0, 1, 1, 1, 1, 1, 1], [f"file {number // 7}"])
        for split in ("train", "validation"):
            files = store.finish_files(split)
            expected = [n for n in range(60) if (n % 7 == 0) == (split == "validation") for _ in range(3)]
            assert sum(file.examples for file in files) == len(expected) == store.examples(split)
            assert {file.examples for file in files[:-1]} == {10}
            read = [np.frombuffer(r, np.uint16) for file in files for r in _records(store.folder / file.name)]
            np.testing.assert_array_equal(read, np.repeat(np.array(expected)[:, None], 4, axis=1))
            written = store.finish_provenance(split).documents
            assert {file.rows for file in written[:-1]} <= {11} and len(written) == -(-len(expected) * 2 // 3 // 11)
            rows = [row for file in written for row in pyarrow.parquet.read_table(store.folder / file.name).to_pylist()]
            numbers = [n for n in range(60) if (n % 7 == 0) == (split == "validation") for _ in range(2)]
            assert [(row["source"], row["record"], row["tokens"]) for row in rows] == [
                (f"file {n // 7}", n, n) for n in numbers
            ]


def _records(path):
    reader = writers.array_record_module.ArrayRecordReader(str(path))
    return reader.read_all()


def test_another_job_begins_again(tmp_path):
    assert _run(tmp_path / "store", 30).returncode == -9
    assert _run(tmp_path / "store", 3, "other").stdout == "0\n"
    with StoreWriter(tmp_path / "store", 4, "uint16") as store:
        assert store.state is None
    assert list(tmp_path.iterdir()) == []


def test_killed_while_files_get_their_names_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(partial, "KEPT_AFTER_SECONDS", 0)
    windows = numbered_windows(25)
    options = {"dtype": "uint16", "file_tokens": 80, "job": "job"}
    with pytest.raises(KeyError), StoreWriter(tmp_path / "store", 8, **options) as store:
        store.write("train", windows[:23])
        store.checkpoint({"done": 23})
        store.write("train", windows[23:])
        store.finish_files("train")
        raise KeyError
    with StoreWriter(tmp_path / "store", 8, **options) as store:
        assert store.state == {"done": 23} and store.examples("train") == 23
        store.write("train", windows[23:])
        files = store.finish_files("train")
        assert [file.examples for file in files] == [10, 10, 5]
        read = [np.frombuffer(record, np.uint16) for file in files for record in _records(store.folder / file.name)]
        np.testing.assert_array_equal(read, windows)
        assert len(list(store.folder.glob("*.array_record"))) == 3


def test_a_cut_off_spool_begins_again(tmp_path):
    assert _run(tmp_path / "store", 33).returncode == -9
    (spool,) = (tmp_path / ".store.partial" / "scratch").glob("train-00007.spool")
    spool.write_bytes(b"")
    assert _run(tmp_path / "store", 3).stdout == "0\n"


def test_what_took_long_is_kept_after_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(partial, "KEPT_AFTER_SECONDS", 0)
    with pytest.raises(KeyError) as caught, StoreWriter(tmp_path / "store", 8, "uint16", job="job") as store:
        store.write("train", numbered_windows(4))
        store.checkpoint({"done": 4})
        store.write("train", numbered_windows(1000))
        raise KeyError
    (note,) = caught.value.__notes__
    assert note.startswith(f"what was done is kept in {tmp_path}/.store.partial (")
    assert note.endswith("): the same command resumes from it")
    # Nothing that came after the checkpoint takes up room.
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.spool")) == 4 * 8 * 2
    with StoreWriter(tmp_path / "store", 8, "uint16", job="job") as store:
        assert store.state == {"done": 4} and store.examples("train") == 4


def test_what_has_no_checkpoint_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(partial, "KEPT_AFTER_SECONDS", 0)
    with pytest.raises(KeyError) as caught, StoreWriter(tmp_path / "store", 8, "uint16", job="job") as store:
        store.write("train", numbered_windows(4))
        raise KeyError
    assert not hasattr(caught.value, "__notes__") and list(tmp_path.iterdir()) == []

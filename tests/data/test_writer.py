"""What is at a store's path is a whole store or nothing."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.stores import numbered_windows, write_store
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
    assert [found.name.startswith(".store.partial-") for found in tmp_path.iterdir()] == [True]
    with pytest.raises(UserError, match="no such token store"):
        TokenStore.open(path)
    write_store(path, numbered_windows(2))
    assert list(tmp_path.iterdir()) == [path]


def test_a_store_set_aside_by_a_killed_writer_comes_back(tmp_path):
    """Killed between moving the old store away and the new one in: the old one is not lost."""
    path = write_store(tmp_path / "store", numbered_windows(3)).path
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path.rename(tmp_path / f"{writers._partial_prefix(path)}{dead.pid}.replaced")
    with pytest.raises(UserError, match="exists already"):
        write_store(path, numbered_windows(4))
    assert len(TokenStore.open(path).split("train")) == 3

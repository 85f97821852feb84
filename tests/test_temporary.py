"""What is being written has a name of its own, and goes with its writer."""

import os
import subprocess
import sys
import time

import pytest

from triarch import temporary
from triarch.files import write_whole
from triarch.temporary import clear_leftovers, temporary_folder, temporary_path

KILLED = """
import os, sys
from pathlib import Path
from triarch.temporary import temporary_path
path = temporary_path(Path(sys.argv[1]))
path.touch()
print(path)
os.kill(os.getpid(), 9)
"""


def killed(target):
    """Returns what a process that was killed in the middle of writing left behind."""
    return subprocess.run([sys.executable, "-c", KILLED, str(target)], capture_output=True, text=True).stdout.strip()


def test_dead_writers_leave_nothing_and_live_ones_lose_nothing(tmp_path):
    left, other = killed(tmp_path / "a.json"), killed(tmp_path / "b.json")
    own = temporary_path(tmp_path / "a.json")
    own.touch()
    (tmp_path / ".hidden.tmp.a.json").touch()
    clear_leftovers(tmp_path, "a.json")
    assert not os.path.exists(left) and os.path.exists(other) and own.exists()
    clear_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([own.name, ".hidden.tmp.a.json"])


def test_a_process_number_that_repeats_is_another_writer(tmp_path, monkeypatch):
    """As in a container, whose program is process 1 at every start."""
    first = temporary_path(tmp_path / "a")
    first.touch()
    began = temporary._started
    monkeypatch.setattr(temporary, "_started", lambda process: began(process) + 1)
    assert temporary_path(tmp_path / "a") != first
    clear_leftovers(tmp_path)
    assert not first.exists()


def test_a_writer_elsewhere_is_dead_when_it_has_rested_long(tmp_path, monkeypatch):
    machine = temporary._machine
    monkeypatch.setattr(temporary, "_machine", lambda: "0" * 8)
    folder, file = temporary_path(tmp_path / "folder"), temporary_path(tmp_path / "file")
    folder.mkdir()
    (folder / "part").touch()
    file.touch()
    monkeypatch.setattr(temporary, "_machine", machine)
    clear_leftovers(tmp_path)
    assert folder.exists() and file.exists()
    long_ago = time.time() - 2 * 3600
    for path in (folder, file):
        os.utime(path, (long_ago, long_ago))
    clear_leftovers(tmp_path)
    assert folder.exists() and not file.exists()
    os.utime(folder / "part", (long_ago, long_ago))
    clear_leftovers(tmp_path)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["n" * 250 + ".csv", "é" * 125 + ".csv", "x"])
def test_the_longest_names_can_be_written(name, tmp_path):
    temporary_name = temporary_path(tmp_path / name).name
    assert len(temporary_name.encode()) <= 255 and temporary_name.endswith(name[-8:])
    write_whole(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_is_gone_unless_it_was_moved(tmp_path):
    with temporary_folder(tmp_path / "a") as folder:
        (folder / "file").touch()
        folder.rename(tmp_path / "a")
    with pytest.raises(ZeroDivisionError), temporary_folder(tmp_path / "b") as folder:
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]

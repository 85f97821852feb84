"""Files are written whole and where they belong; what is no plain file of a folder is neither read nor replaced."""

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from triarch.errors import UserError
from triarch.files import check_regular, copy_regular, read_regular, regular_files, write_whole


def test_a_link_stays_and_its_target_is_written(tmp_path):
    target, link = tmp_path / "deep" / "target.json", tmp_path / "link.json"
    target.parent.mkdir()
    for _ in range(2):  # It dangles at first.
        link.unlink(missing_ok=True)
        link.symlink_to("deep/target.json")
        write_whole(link, "content")
        assert link.is_symlink() and target.read_text() == "content"
    assert os.listdir(target.parent) == ["target.json"] and sorted(os.listdir(tmp_path)) == ["deep", "link.json"]


def test_devices_stay_devices(tmp_path):
    link = tmp_path / "null"
    link.symlink_to(os.devnull)
    before = os.stat(os.devnull)
    write_whole(link, "content")
    after = os.stat(os.devnull)
    assert stat.S_ISCHR(after.st_mode) and (before.st_ino, before.st_rdev) == (after.st_ino, after.st_rdev)
    assert link.is_symlink()


def test_a_full_device_is_an_error():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_whole(Path("/dev/full"), "content")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_fifo_is_written_through(tmp_path):
    fifo = tmp_path / "fifo.json"
    os.mkfifo(fifo)
    found = []
    reader = threading.Thread(target=lambda: found.append(fifo.read_text()))
    reader.start()
    write_whole(fifo, "content")
    reader.join(10)
    assert found == ["content"] and fifo.is_fifo()


@pytest.mark.skipif(sys.platform != "linux", reason="open files by their numbers")
def test_an_open_file_keeps_what_it_has(tmp_path):
    path = tmp_path / "out.txt"
    with path.open("w") as file:
        file.write("printed\n")
        file.flush()
        link = tmp_path / "stdout"
        link.symlink_to(f"/proc/self/fd/{file.fileno()}")
        write_whole(link, "content\n")
    assert path.read_text() == "printed\ncontent\n"


def test_a_loop_of_links_is_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        write_whole(tmp_path / "a", "content")


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"12345")
    (tmp_path / "null").symlink_to(os.devnull)
    for name, message in {"fifo": "is a FIFO", "null": "is a device", ".": "is a folder"}.items():
        for read in (lambda path: read_regular(path, 4), check_regular):
            with pytest.raises(UserError, match=f"{message}, expected a regular file"):
                read(tmp_path / name)
    with pytest.raises(UserError, match="large: has 5 bytes, expected at most 4"):
        read_regular(tmp_path / "large", 4)
    assert read_regular(tmp_path / "large", 5) == b"12345"
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", 5)


def test_what_leaves_a_folder_is_not_copied(tmp_path):
    home = tmp_path / "store"
    vocabulary = home / "vocabulary"
    vocabulary.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (home / "other").write_text("other")
    (vocabulary / "a").write_text("a")
    (vocabulary / "b").symlink_to("../other")
    copy_regular(vocabulary, tmp_path / "copy")
    assert (tmp_path / "copy" / "b").read_text() == "other" and not (tmp_path / "copy" / "b").is_symlink()
    for target in (tmp_path / "secret", tmp_path, "../../secret", "none"):
        (vocabulary / "y").symlink_to(target)
        with pytest.raises(UserError, match=r"y: (a link out of|cannot be read: No such file)"):
            copy_regular(vocabulary, tmp_path / f"copy {len(os.listdir(tmp_path))}")
        (vocabulary / "y").unlink()
    os.mkfifo(vocabulary / "y")
    with pytest.raises(UserError, match="y: is a FIFO"):
        regular_files(vocabulary, home)
    # A folder that is itself a link out.
    (home / "linked").symlink_to(tmp_path)
    with pytest.raises(UserError, match="linked: a link out of"):
        regular_files(home / "linked", home)


def test_the_cache_of_hugging_face_links_its_blobs(tmp_path):
    cache = tmp_path / "models--org--name"
    snapshot = cache / "snapshots" / "0a1b"
    (cache / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (cache / "blobs" / "hash").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/hash")
    assert check_regular(snapshot / "config.json", snapshot) == 2
    (tmp_path / "secret").write_text("")
    (snapshot / "y").symlink_to("../../../secret")
    with pytest.raises(UserError, match="a link out of"):
        check_regular(snapshot / "y", snapshot)

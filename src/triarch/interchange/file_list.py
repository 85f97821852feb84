"""Size and sha256 of every file of an export, so that a damaged one is named before anything tries to read it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from triarch import schema
from triarch.errors import UserError
from triarch.files import check_regular, regular_files, sha256, write_synced
from triarch.schema import Digest, FileName, MapOf, Record, Whole

FILE_NAME = "files.json"
_SCHEMA = MapOf(Record({"size": Whole(), "sha256": Digest()}), least=1, names=FileName(below=True))
_THREADS = 4


def write_file_list(folder: Path) -> None:
    """Writes the list of all files in the folders in `folder` into it."""
    paths = _in_folders(folder)
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = list(pool.map(sha256, paths))
    entries = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": digest}
        for path, digest in zip(paths, digests, strict=True)
    }
    write_synced(folder / FILE_NAME, json.dumps(entries, indent=2, sort_keys=True) + "\n")


def check_files(folder: Path) -> None:
    """Checks every file of the list, and that none is missing from it.

    Raises:
      UserError: the list is missing or damaged, a file on it is missing, of another size, or has changed, or one is
        there that it lacks; a file is a link out of the export, or a device, FIFO or socket.
    """
    listed = folder / FILE_NAME
    try:
        entries = schema.read(listed, _SCHEMA)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{listed}: the export is cut short: the file is missing") from None
    expected = {folder / name: (entry["size"], entry["sha256"]) for name, entry in entries.items()}
    for path, (size, _) in expected.items():
        try:
            found = check_regular(path, folder)
        except OSError:
            raise UserError(f"{path}: the export is cut short: the file is missing") from None
        if found != size:
            raise UserError(f"{path}: the export is damaged: {found:,} bytes, expected {size:,}")
    for path in _in_folders(folder):
        if path not in expected:
            raise UserError(f"{path}: the export is damaged: {FILE_NAME} does not list this file")
    with ThreadPoolExecutor(_THREADS) as pool:
        for path, digest in zip(expected, pool.map(sha256, expected), strict=True):
            if digest != expected[path][1]:
                raise UserError(f"{path}: the export is damaged: the file has changed since it was written")


def _in_folders(folder: Path) -> list[Path]:
    """Returns the files below the folders in `folder`, but hidden ones, which file systems and editors put there."""
    found = [path for inner in sorted(folder.iterdir()) if inner.is_dir() for path in regular_files(inner, folder)]
    return [path for path in found if not path.name.startswith(".")]

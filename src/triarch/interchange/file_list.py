"""Size and sha256 of every file of an export, so that a damaged one is named before anything tries to read it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from triarch.errors import UserError
from triarch.files import sha256, write_synced

FILE_NAME = "files.json"
_THREADS = 4


def write_file_list(folder: Path) -> None:
    """Writes the list of all files in the folders in `folder` into it."""
    paths = sorted(path for path in folder.glob("*/**/*") if path.is_file())
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = list(pool.map(sha256, paths))
    entries = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": digest}
        for path, digest in zip(paths, digests, strict=True)
    }
    write_synced(folder / FILE_NAME, json.dumps(entries, indent=2, sort_keys=True) + "\n")


def check_files(folder: Path) -> None:
    """Checks every file of the list.

    Raises:
      UserError: the list is missing or damaged, or a file on it is missing, of another size, or has changed.
    """
    try:
        entries = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        expected = {folder / name: (entry["size"], entry["sha256"]) for name, entry in entries.items()}
    except FileNotFoundError:
        raise UserError(f"{folder / FILE_NAME}: the export is cut short: the file is missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / FILE_NAME}: damaged: {type(error).__name__}: {error}") from None
    for path, (size, _) in expected.items():
        if not path.is_file():
            raise UserError(f"{path}: the export is cut short: the file is missing")
        if path.stat().st_size != size:
            raise UserError(f"{path}: the export is damaged: {path.stat().st_size:,} bytes, expected {size:,}")
    with ThreadPoolExecutor(_THREADS) as pool:
        for path, found in zip(expected, pool.map(sha256, expected), strict=True):
            if found != expected[path][1]:
                raise UserError(f"{path}: the export is damaged: the file has changed since it was written")

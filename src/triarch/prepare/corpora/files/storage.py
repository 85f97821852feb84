"""Finding and opening files: plain paths, and URLs such as gs://bucket/file through fsspec."""

from __future__ import annotations

import glob
import hashlib
import re
from pathlib import Path
from typing import IO, Any, cast

import fsspec

from triarch.errors import UserError

COMPRESSED = (".gz", ".zst")
LINE_FORMATS = (".txt", ".jsonl", ".json")
TABLE_FORMATS = (".parquet", ".arrow")
SUFFIXES = (*(kind + packed for kind in LINE_FORMATS for packed in ("", *COMPRESSED)), *TABLE_FORMATS)
# How the files of a data set's splits are called (Hugging Face's conventions).
_HELD_OUT = re.compile(r"(^|[-._/])(validation|valid|val|dev|test|eval)([-._/]|$)")
_TRAIN = re.compile(r"(^|[-._/])(train|training)([-._/]|$)")


def is_remote(path: str) -> bool:
    """Returns whether `path` is a URL, such as gs://bucket/file."""
    return "://" in path


def matching(pattern: str) -> list[str]:
    """Returns the files that `pattern` means, sorted.

    A pattern is a file, a glob pattern (`**` for any depth), or a folder: all files in it of known formats, but only
    those of its training split where their names tell splits apart (`train-00000-of-00002.parquet`).

    Raises:
      UserError: there is none, or the store it lies in cannot be reached.
    """
    found = _remote_matching(pattern) if is_remote(pattern) else _local_matching(pattern) if pattern else []
    if not found:
        raise UserError(f"--files={pattern}: no such file, and nothing matches it as a pattern")
    return found


def opened(path: str) -> IO[bytes]:
    """Opens a file for reading.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return fsspec.open(path, "rb").open() if is_remote(path) else Path(path).open("rb")
    except Exception as error:  # Every store has errors of its own.
        raise UserError(f"{path}: cannot be read: {_reason(error)}") from None


def size(path: str) -> int:
    """Returns the file's bytes as it lies there, compressed or not.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return _store(path).size(path) if is_remote(path) else Path(path).stat().st_size
    except Exception as error:
        raise UserError(f"{path}: cannot be read: {_reason(error)}") from None


def check_file(path: str) -> None:
    """Raises UserError unless `path` is a file of a known format named in UTF-8; of a URL, reading it tells more."""
    if not path.isascii():
        try:
            path.encode()
        except UnicodeEncodeError:
            raise UserError(f"{path!a}: its name is not UTF-8, and a store names its files: rename it") from None
    if not path.endswith(SUFFIXES):
        raise UserError(f"{path}: expected a file named {', '.join(f'*{suffix}' for suffix in SUFFIXES)}")
    if not is_remote(path) and not Path(path).is_file():
        raise UserError(f"{path}: {'is a folder, expected a file' if Path(path).is_dir() else 'no such file'}")


def version(path: str) -> str:
    """Returns what changes when the file does; asking is cheap.

    Raises:
      UserError: it cannot be read.
    """
    try:
        if is_remote(path):
            return str(_store(path).ukey(path))
        status = Path(path).stat()
        return f"{status.st_size} {status.st_mtime_ns}"
    except Exception as error:
        raise UserError(f"{path}: cannot be read: {_reason(error)}") from None


def provenance(path: str) -> dict[str, Any]:
    """Returns name and size, and the sha256 of a local file: a remote one is not read once more for it."""
    found: dict[str, Any] = {"name": path, "size": size(path)}
    if not is_remote(path):
        with opened(path) as file:
            found["sha256"] = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    return found


def _local_matching(pattern: str) -> list[str]:
    # A file whose own name holds brackets or stars is meant literally.
    if Path(pattern).is_dir():
        return _of_known_format(pattern, sorted(str(path) for path in Path(pattern).rglob("*") if path.is_file()))
    return [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))


def _remote_matching(pattern: str) -> list[str]:
    try:
        store = _store(pattern)
        if store.isdir(pattern):
            known = _of_known_format(store._strip_protocol(pattern), sorted(store.find(pattern)))
            return [store.unstrip_protocol(path) for path in known]
        if store.isfile(pattern):
            return [pattern]
        return sorted(map(store.unstrip_protocol, store.glob(pattern)))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--files={pattern}: cannot be reached: {_reason(error)}") from None


def _of_known_format(folder: str, paths: list[str]) -> list[str]:
    def inside(path: str) -> str:
        return path.removeprefix(folder)

    known = [path for path in paths if path.endswith(SUFFIXES) and not _is_metadata(inside(path))]
    if not known:
        raise UserError(f"--files={folder}: the folder holds no file named {', '.join(f'*{s}' for s in SUFFIXES)}")
    train = [path for path in known if _TRAIN.search(inside(path))]
    return train or [path for path in known if not _HELD_OUT.search(inside(path))] or known


def _is_metadata(path: str) -> bool:
    """Returns whether it is a file that Hugging Face puts beside the data, or a hidden one."""
    parts = path.split("/")
    return parts[-1] in ("dataset_info.json", "dataset_dict.json", "dataset_infos.json", "state.json") or any(
        part.startswith(".") and part not in (".", "..") for part in parts
    )


def _store(url: str) -> fsspec.AbstractFileSystem:
    try:
        return fsspec.core.url_to_fs(url)[0]
    except (ImportError, ValueError) as error:
        advice = ": pip install 'triarch[gcs]'" if url.startswith(("gs://", "gcs://")) else ""
        raise UserError(f"{url}: cannot be reached: {_reason(error)}{advice}") from None


def _reason(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(reason).splitlines()[0]

"""Local copies of folders in buckets, for what reads files at random, and new folders on their way to one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from triarch.errors import UserError
from triarch.files import regular_files
from triarch.remote.objects import Objects
from triarch.temporary import clear_leftovers, temporary_folder

_CACHE = "TRIARCH_CACHE"
MANIFEST = "manifest.json"
_ENDED = "whole"


def cache_folder() -> Path:
    """Returns where local copies are kept: TRIARCH_CACHE, or ~/.cache/triarch."""
    return Path(os.environ.get(_CACHE) or Path.home() / ".cache" / "triarch")


def kept_copy(url: str) -> Path:
    """Returns a local copy of a folder that has a manifest and never changes under it, as a token store does.

    The copy stays, by the manifest's hash, for whoever asks next.

    Raises:
      UserError: there is none, it cannot be read, or the disk has no room for it.
    """
    objects = Objects(url)
    objects.check_reachable()
    content = objects.read(MANIFEST)
    if content is None:
        raise UserError(f"{url}: no {MANIFEST} there: expected a token store or an export")
    name = Path(url.rstrip("/")).name
    home = cache_folder() / hashlib.sha256(url.encode() + b"\n" + content).hexdigest()[:24]
    folder = home / name
    if (home / _ENDED).exists():
        return folder
    home.mkdir(parents=True, exist_ok=True)
    clear_leftovers(home)
    sizes = objects.sizes()
    _check_room(home, url, sum(sizes.values()))
    print(f"triarch: copying {url} ({sum(sizes.values()) / 1e6:,.1f} MB) to {folder}", file=sys.stderr, flush=True)
    with temporary_folder(folder) as temporary:
        _download(objects, sizes, temporary)
        # Another process may have been faster; its copy is the same.
        with contextlib.suppress(OSError):
            temporary.rename(folder)
    (home / _ENDED).touch()
    return folder


@contextlib.contextmanager
def passing_copy(objects: Objects, sizes: Mapping[str, int]) -> Iterator[Path]:
    """Gives a local copy of a folder's objects, which is removed at the end."""
    with new_folder(objects.url) as folder:
        _check_room(folder, objects.url, sum(sizes.values()))
        _download(objects, sizes, folder)
        yield folder


@contextlib.contextmanager
def new_folder(url: str) -> Iterator[Path]:
    """Gives an empty local folder called as the URL's end, which is removed at the end."""
    home = tempfile.mkdtemp(prefix="triarch-")
    try:
        folder = Path(home) / Path(url.rstrip("/")).name
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(home, ignore_errors=True)


def send_folder(folder: Path, objects: Objects, is_whole: bool) -> None:
    """Sends a folder's files; of one that is whole only with its manifest, that goes first and comes last.

    Whoever reads meanwhile finds no manifest, so nothing that looks whole. What a whole folder does not hold goes.
    """
    files = {path.relative_to(folder).as_posix(): path for path in regular_files(folder, folder)}
    if is_whole:
        before = objects.sizes()
        objects.remove([MANIFEST] if MANIFEST in before else [])
        objects.remove([name for name in before if name not in files and name != MANIFEST])
    last = files.pop(MANIFEST, None)
    objects.upload_all(files)
    if last is not None:
        objects.upload(last, MANIFEST)


def _download(objects: Objects, sizes: Mapping[str, int], folder: Path) -> None:
    try:
        objects.download_all(sizes, folder)
    except FileNotFoundError as error:
        raise UserError(f"{objects.url}: changed while it was read ({error}): try again") from None


def _check_room(folder: Path, url: str, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{url}: has {needed / 1e9:,.1f} GB, and {folder} room for {free / 1e9:,.1f}: {_CACHE} names another folder"
        )

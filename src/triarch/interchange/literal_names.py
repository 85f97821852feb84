"""Lets Orbax write and read in folders of any name.

Orbax lists files by `etils.epath.Path.glob`, which, unlike pathlib's, takes the folder's own name for a pattern too: in
a folder `a[1]` it finds nothing, and what it then writes cannot be read again; in `a*` it finds those of `ab`.
"""

from __future__ import annotations

import functools
import glob
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from triarch.errors import UserError


def check_name(folder: Path) -> None:
    """Raises UserError for a name under which TensorStore would write elsewhere, or nothing."""
    name = str(folder.absolute())
    if "\\" in name:
        raise UserError(f"{folder}: parameters cannot be kept in a folder with a backslash in its path: rename it")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name!a}: parameters cannot be kept in a folder whose path is not UTF-8: rename it") from None


def install() -> None:
    """Makes `epath.Path.glob` take the names of local folders as they are."""
    kind = type(epath.Path("folder"))
    original = kind.glob
    if getattr(original, "is_literal", False):
        return

    @functools.wraps(original)
    def literal(self: epath.Path, pattern: str) -> Iterator[epath.Path]:
        is_remote = "://" in str(self)
        return original(self if is_remote else kind(glob.escape(str(self))), pattern)

    literal.__dict__["is_literal"] = True
    kind.glob = literal

"""What an error says of a disk without room."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

from triarch.memory import shown

_FULL = (errno.ENOSPC, errno.EDQUOT)
# What libraries say that keep the number to themselves.
_SIGNS = re.compile(r"No space left|[Qq]uota exceeded")


def is_full(error: BaseException) -> bool:
    """Returns whether an error, of Python or of a library, says that the disk is full, or one's share of it."""
    return (isinstance(error, OSError) and error.errno in _FULL) or bool(_SIGNS.search(str(error)))


def full(path: str | os.PathLike[str]) -> str:
    """Returns "the disk is full" with how much is free where `path` is, or was to be."""
    folder = Path(path).absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return f"the disk is full ({shown(shutil.disk_usage(folder).free)} left)"

"""Writing files so that what is there is whole."""

from __future__ import annotations

import os
from pathlib import Path


def write_synced(path: Path, content: str | bytes) -> None:
    """Writes a file whose content is on the disk, not only on its way, when this returns; text as UTF-8."""
    with path.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that is either as it was or complete, whenever the process ends.

    Raises:
      OSError: it cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_synced(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

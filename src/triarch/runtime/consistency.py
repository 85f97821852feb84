"""What processes of a run tell each other, and what they must see alike; each of these is called by all of them."""

from __future__ import annotations

import time
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from triarch.errors import UserError
from triarch.runtime import multihost
from triarch.temporary import temporary_path

# A folder made on one host of a network file system may take this long to be seen on another.
_SEEN_WITHIN_SECONDS = 30.0
_TEXT_BYTES = 512


def check_same_folder(workdir: Path) -> None:
    """Makes sure that all processes see the folder that process 0 has made.

    Raises:
      UserError: some do not (named).
    """
    if jax.process_count() == 1:
        return
    is_first = jax.process_index() == 0
    folder, sign = from_first(str(workdir)), workdir / from_first(temporary_path(workdir / "seen-by-all").name)
    if is_first:
        sign.touch()
    multihost_utils.sync_global_devices("sign in the run folder")
    deadline = time.monotonic() + _SEEN_WITHIN_SECONDS
    while not sign.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    seen = multihost_utils.process_allgather(np.array(sign.exists()))
    if is_first:
        sign.unlink(missing_ok=True)
    if not seen.all():
        blind = multihost.describe(*np.flatnonzero(~seen).tolist())
        raise UserError(f"{blind} cannot see {folder} of process 0: --workdir must be one folder that all hosts share")


def from_all(text: str) -> list[str]:
    """Returns the text of every process, cut to some hundred characters, by process."""
    if jax.process_count() == 1:
        return [text]
    row = np.zeros(_TEXT_BYTES, np.uint8)
    data = np.frombuffer(text.encode()[:_TEXT_BYTES], np.uint8)
    row[: len(data)] = data
    rows = multihost_utils.process_allgather(row)
    return [one.tobytes().rstrip(b"\0").decode(errors="replace") for one in rows]


def from_first(text: str) -> str:
    """Returns the text that process 0 has."""
    if jax.process_count() == 1:
        return text
    data = np.frombuffer(text.encode(), np.uint8)
    # The others' texts may have other lengths, and the arrays must be alike.
    length = int(multihost_utils.broadcast_one_to_all(np.array(len(data))))
    padded = np.zeros(length, np.uint8)
    padded[: len(data)] = data[:length]
    return multihost_utils.broadcast_one_to_all(padded).tobytes().decode()

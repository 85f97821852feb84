"""What the processes of a run must have in common before they begin; each of these is called by all of them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.runtime import multihost
from triarch.temporary import temporary_path
from triarch.training.config import RunConfig
from triarch.training.config_classes import to_plain
from triarch.training.fingerprint import differences

# A folder made on one host of a network file system may take this long to be seen on another.
_SEEN_WITHIN_SECONDS = 30.0
_TEXT_BYTES = 512


def check_same_run(config: RunConfig, stores: Sequence[TokenStore], began_from: Mapping[str, Any] | None) -> None:
    """Makes sure that all processes run the same config on the same data.

    They also begin from the same parameters: `began_from` says which, see `StartingPoint.taken`, and is None for fresh
    ones. Where the stores and the compilation cache lie may differ; what is in the stores may not.

    Raises:
      UserError: this process's run is not that of process 0; names what differs.
    """
    if jax.process_count() == 1:
        return
    local: dict[str, Any] = {"compilation_cache": None, "data": dataclasses.replace(config.data, store=None)}
    ours = to_plain(dataclasses.replace(config, **local))
    ours["store_fingerprints"] = [store.manifest.fingerprint for store in stores]
    ours["mixture"] = None if isinstance(config.data.store, str) else _without_folders(to_plain(config.data.store))
    ours["parameters to begin from"] = began_from
    first = json.loads(from_first(json.dumps(ours)))
    changed = differences(first, json.loads(json.dumps(ours)))
    if changed:
        raise UserError(
            f"{multihost.describe(jax.process_index())} was started with another run than process 0 "
            f"({'; '.join(changed)}): start all with the same command and files, or with --num_processes=1 if each is "
            "to run by itself"
        )


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


def _without_folders(mixture: Any) -> Any:
    return None if mixture is None else {key: value for key, value in mixture.items() if key != "stores"}


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

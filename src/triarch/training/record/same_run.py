"""Processes of one run have one config and one data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.runtime import multihost
from triarch.runtime.consistency import from_first
from triarch.training.config import DataConfig, RunConfig
from triarch.training.record.config_classes import to_plain
from triarch.training.record.fingerprint import differences


def check_same_run(config: RunConfig, stores: Sequence[TokenStore], began_from: Mapping[str, Any] | None) -> None:
    """Makes sure that all processes run the same config on the same data.

    They also begin from the same parameters: `began_from` says which, see `StartingPoint.taken`, and is None for fresh
    ones. Where the stores and the compilation cache lie may differ; what is in the stores may not.

    Raises:
      UserError: this process's run is not that of process 0; names what differs.
    """
    if jax.process_count() == 1:
        return
    phases = tuple(dataclasses.replace(phase, data=_elsewhere(phase.data)) for phase in config.phases)
    local: dict[str, Any] = {"compilation_cache": None, "data": _elsewhere(config.data), "phases": phases}
    ours = to_plain(dataclasses.replace(config, **local))
    ours["store_fingerprints"] = [store.manifest.fingerprint for store in stores]
    ours["mixture"] = [
        None if data is None or isinstance(data.store, str) else _without_folders(to_plain(data.store))
        for data in (config.data, *(phase.data for phase in config.phases))
    ]
    ours["parameters to begin from"] = began_from
    first = json.loads(from_first(json.dumps(ours)))
    changed = differences(first, json.loads(json.dumps(ours)))
    if changed:
        raise UserError(
            f"{multihost.describe(jax.process_index())} was started with another run than process 0 "
            f"({'; '.join(changed)}): start all with the same command and files, or with --num_processes=1 if each is "
            "to run by itself"
        )


def _elsewhere(data: DataConfig | None) -> DataConfig | None:
    return None if data is None else dataclasses.replace(data, store=None)


def _without_folders(mixture: Any) -> Any:
    return None if mixture is None else {key: value for key, value in mixture.items() if key != "stores"}

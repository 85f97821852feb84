"""What a run folder holds: the resolved config beside the checkpoints, and the refusal to go on under another."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triarch.data.manifest import VOCABULARY
from triarch.data.mixture import StoreMixture
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.files import write_whole
from triarch.training.config import FREE_KEYS, RunConfig

CONFIG_TEXT = "config.gin"
CONFIG_JSON = "config.json"
# Beside the config in config.json: which segments a run had before, and its order of data, which follows from both.
HISTORY_KEYS = ("data_order", "earlier_segments")


def to_plain(value: Any) -> Any:
    """Returns a config as nested dicts, lists and scalars, each dataclass with its name under "class"."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Returns a line "key: old -> new" for every place where two plain values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        if old.get("class") != new.get("class"):
            return [f"{key}: {old.get('class')} -> {new.get('class')}"]
        names = [*old, *(name for name in new if name not in old)]
        dotted = {name: f"{key}.{name}" if key else name for name in names}
        return [
            line
            for name in names
            for line in differences(old.get(name, "(absent)"), new.get(name, "(absent)"), dotted[name])
        ]
    return [] if old == new else [f"{key}: {old!r} -> {new!r}"]


def config_fingerprint(identity: dict[str, Any]) -> str:
    """Returns 16 hexadecimal digits for what config.json holds, without what a run may change when it goes on."""
    flat = _flat(identity, "")
    lasting = sorted((key, value) for key, value in flat.items() if not _free(key) and not _is_history(key))
    return hashlib.sha256(json.dumps(lasting).encode()).hexdigest()[:16]


def changes(workdir: Path, config: RunConfig) -> list[str]:
    """Returns a line for everything in which `config` differs from the run that a folder holds, stores apart.

    None for a folder without one; otherwise raises as `check_folder`.
    """
    old = _saved(workdir)
    if old is None:
        return []
    new = json.loads(json.dumps(to_plain(config)))
    return [line for line in differences({key: old.get(key) for key in new}, new) if not _free(line.split(":", 1)[0])]


def check_folder(workdir: Path, config: RunConfig, stores: Sequence[TokenStore]) -> None:
    """Makes sure that a run folder is new or holds this very run; writes nothing.

    Args:
      workdir: the run folder.
      config: of this run.
      stores: the token stores that it reads.

    Raises:
      UserError: the folder holds a run under another config, or its config.json is unreadable.
    """
    old = _saved(workdir)
    if old is None:
        return
    changed = changed_keys(old, config, stores)
    if changed:
        raise UserError(
            f"{workdir} holds a run under another config ({'; '.join(changed)}): choose another --workdir, set these "
            "back, or train on under them with --continue_with"
        )


def changed_keys(old: dict[str, Any], config: RunConfig, stores: Sequence[TokenStore]) -> list[str]:
    """Returns a line "key: old -> new" for all that another segment of a run would change.

    Args:
      old: what config.json holds.
      config: of the new segment.
      stores: that it reads.
    """
    own = {key: value for key, value in old.items() if key not in HISTORY_KEYS}
    return [line for line in differences(own, _identity(config, stores)) if not _free(line.split(":", 1)[0])]


def write_folder(
    workdir: Path,
    config: RunConfig,
    config_text: str,
    stores: Sequence[TokenStore],
    history: Mapping[str, Any] | None = None,
) -> None:
    """Creates the run folder if need be; writes the config into it, as gin text and as JSON, and the vocabulary.

    With its vocabulary a run can be evaluated and exported wherever its token store has gone. `history` holds values of
    HISTORY_KEYS, see `segments.history`.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    vocabulary = stores[0].vocabulary_folder
    if vocabulary.is_dir() and not (workdir / VOCABULARY).exists():
        partial = workdir / f".{VOCABULARY}.{os.getpid()}.tmp"
        shutil.copytree(vocabulary, partial)
        partial.rename(workdir / VOCABULARY)
    write_whole(workdir / CONFIG_TEXT, config_text)
    write_whole(workdir / CONFIG_JSON, json.dumps(_identity(config, stores) | dict(history or {}), indent=2) + "\n")


def _saved(workdir: Path) -> dict[str, Any] | None:
    """Returns what a run folder's config.json holds; None where there is no such folder or file yet."""
    saved = workdir / CONFIG_JSON
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"{workdir}: expected a folder")
    if not saved.exists():
        return None
    try:
        return json.loads(saved.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{saved}: not readable as JSON ({error}); is {workdir} a run folder?") from error


def _flat(value: Any, key: str) -> dict[str, Any]:
    """Returns the scalars and lists in nested dicts by their dotted keys."""
    if not isinstance(value, dict):
        return {key: value}
    found = {}
    for name, item in value.items():
        found |= _flat(item, f"{key}.{name}" if key else name)
    return found


def _identity(config: RunConfig, stores: Sequence[TokenStore]) -> Any:
    fingerprint, *others = (store.manifest.fingerprint for store in stores)
    if others:
        fingerprint = hashlib.sha256("\n".join([fingerprint, *others]).encode()).hexdigest()
    vocabulary = dataclasses.asdict(stores[0].manifest.vocabulary)
    identity = {**to_plain(config), "store_fingerprint": fingerprint, "vocabulary": vocabulary}
    if isinstance(config.data.store, StoreMixture):
        phases = enumerate(to_plain(config.data.store.phases))
        identity["mixture"] = {f"phases[{number}]": phase for number, phase in phases}
    return json.loads(json.dumps(identity))


def _is_history(key: str) -> bool:
    return key.partition(".")[0] in HISTORY_KEYS


def _free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS)

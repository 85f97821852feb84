"""What a run folder holds: the resolved config beside the checkpoints, and the refusal to resume under another."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triarch import registry, schema
from triarch.data.manifest import FILE_NAME as MANIFEST
from triarch.data.manifest import VOCABULARY
from triarch.data.mixture import StoreMixture
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.files import copy_regular, write_whole
from triarch.interchange.manifest import TUNED_FROM
from triarch.schema import Anything, Items, MapOf, OrNull, Record, Text, Whole
from triarch.sharding.mesh import AXES
from triarch.temporary import temporary_folder
from triarch.training.config import FREE_KEYS, RunConfig
from triarch.training.logs.metrics import FILE_NAME as METRICS
from triarch.training.logs.trackers import TENSORBOARD, WANDB, WANDB_FILE
from triarch.training.record.config_classes import completed, to_plain, without_defaults

CONFIG_TEXT = "config.gin"
CONFIG_JSON = "config.json"
CHECKPOINTS = "checkpoints"
# As Orbax names checkpoints; what else consists of digits is no step.
_STEP = re.compile("0|[1-9][0-9]{0,17}")
SUMMARY = "summary.json"
_FILES, _FOLDERS = (
    (CONFIG_TEXT, CONFIG_JSON, SUMMARY, METRICS, WANDB_FILE),
    (CHECKPOINTS, VOCABULARY, TENSORBOARD, WANDB),
)
# Beside them: what a run chose where its config leaves the mesh and the like open, see `training.choosing`.
CHOSEN = "chosen"
# Beside the config in config.json: which segments a run had before, and its order of data, which follows from both; and
# what it chose.
HISTORY_KEYS = ("data_order", "earlier_segments", "phase_starts", CHOSEN)
_CHOSEN = Record(
    {
        "mesh": Record({axis: OrNull(Whole(1, 2**20)) for axis in AXES}),
        "remat": Text(("none", "full", "save_projections", "save_projections_and_attention")),
        "gather": Text(("compiler", "layer")),
        "microbatches": Whole(1, 2**31),
        "devices": Text(),
        "left_open": Items(Text(("mesh", "remat", "gather"))),
        "needed_bytes": OrNull(Whole(0, 2**53)),
        "batch": Items(Whole(1, 2**53)),
    }
)
# Beside them, of a run with `init_from`: which parameters it took, see `StartingPoint.taken`.
BEGAN_FROM = "began_from"


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
    return [] if old == new else [f"{key}: {_shown(old)} -> {_shown(new)}"]


def _shown(value: Any) -> str:
    """A value of a config as messages have it: of a class that is not in the other config only its name."""
    return value["class"] if isinstance(value, dict) and isinstance(value.get("class"), str) else repr(value)


def config_fingerprint(identity: dict[str, Any]) -> str:
    """Returns 16 hexadecimal digits for what config.json holds, without what a run may change when it resumes.

    Fields at their defaults do not count, so that the digits stay when triarch gets a new one.
    """
    flat = _flat(without_defaults(_by_phase(identity)), "")
    lasting = sorted((key, value) for key, value in flat.items() if not _free(key) and not _is_history(key))
    return hashlib.sha256(json.dumps(lasting).encode()).hexdigest()[:16]


def saved_steps(workdir: Path) -> list[int]:
    """Returns the steps that a run folder has checkpoints of, whole or not, oldest first."""
    return sorted(int(path.name) for path in (workdir / CHECKPOINTS).glob("*") if _STEP.fullmatch(path.name))


def checkpoint_id(fingerprint: str, step: int) -> str:
    """Returns what identifies a checkpoint of a run, wherever it lies."""
    return f"{fingerprint} at step {step}"


def run_fingerprint(
    config: RunConfig, stores: Sequence[TokenStore], began_from: Mapping[str, Any] | None = None
) -> str:
    """Returns the fingerprint that the config.json of a run of `config` on `stores` will have.

    Where the run begins from parameters that are there, `began_from` says which, see `StartingPoint.taken`.
    """
    return config_fingerprint(_identity(config, stores) | ({BEGAN_FROM: began_from} if began_from else {}))


def changes(workdir: Path, config: RunConfig) -> list[str]:
    """Returns a line for everything in which `config` differs from the run that a folder holds, stores apart.

    None for a folder without one, or one that was never trained; otherwise raises as `check_folder`.
    """
    old = _saved(workdir)
    if old is None or not is_begun(workdir):
        return []
    old, new = completed(old), json.loads(json.dumps(to_plain(config)))
    old, new = _by_phase({key: old.get(key) for key in new}), _by_phase(new)
    return [line for line in differences(old, new) if not _free(line.split(":", 1)[0])]


def check_folder(workdir: Path, config: RunConfig, stores: Sequence[TokenStore], *, even_unbegun: bool = False) -> None:
    """Makes sure that a run folder is new or holds this very run; writes nothing.

    A run is held once a step of it was logged or saved: one that failed before that binds nobody to its config.

    Args:
      workdir: the run folder.
      config: of this run.
      stores: the token stores that it reads.
      even_unbegun: whether a config that never trained counts too.

    Raises:
      UserError: the folder holds a run under another config, or its config.json is unreadable.
    """
    old = _saved(workdir)
    if old is None or not (even_unbegun or is_begun(workdir)):
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
    own = completed({key: value for key, value in old.items() if key not in (*HISTORY_KEYS, BEGAN_FROM)})
    lines = differences(_by_phase(own), _by_phase(_identity(config, stores)))
    return [line for line in lines if not _free(line.split(":", 1)[0])]


def write_folder(
    workdir: Path,
    config: RunConfig,
    config_text: str,
    stores: Sequence[TokenStore],
    history: Mapping[str, Any] | None = None,
) -> None:
    """Creates the run folder if need be; writes the config into it, as gin text and as JSON, and the vocabulary.

    With its vocabulary a run can be evaluated and exported wherever its token store has gone. `history` holds values of
    HISTORY_KEYS, see `segments.history`, and of BEGAN_FROM. What a run that never trained left there is removed.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    vocabulary, own = stores[0].vocabulary_folder, workdir / VOCABULARY
    if not is_begun(workdir):
        shutil.rmtree(own, ignore_errors=True)
        (workdir / f"{TUNED_FROM}.json").unlink(missing_ok=True)
    if vocabulary.is_dir() and not own.exists():
        with temporary_folder(own) as partial:
            copy_regular(vocabulary, partial / VOCABULARY)
            (partial / VOCABULARY).rename(own)
    write_whole(workdir / CONFIG_TEXT, config_text)
    write_whole(workdir / CONFIG_JSON, json.dumps(_identity(config, stores) | dict(history or {}), indent=2) + "\n")


def _saved(workdir: Path) -> dict[str, Any] | None:
    """Returns what a run folder's config.json holds; None where there is no such folder or file yet."""
    saved = workdir / CONFIG_JSON
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"{workdir}: expected a folder")
    for name in (*_FILES, *_FOLDERS):
        path = workdir / name
        if path.exists() and not (path.is_dir() if name in _FOLDERS else path.is_file()):
            raise UserError(f"{path}: expected a {'folder' if name in _FOLDERS else 'file'}: move it away")
    if (workdir / MANIFEST).exists():
        raise UserError(f"{workdir}: holds a token store or an export, not a run: choose another --workdir")
    if not saved.exists():
        return None
    config = schema.read(saved, MapOf(Anything()))
    if config.get("class") != RunConfig.__name__:
        raise UserError(f"{saved}: is not the config of a run: choose another --workdir")
    return config


def read_chosen(workdir: Path) -> Mapping[str, Any] | None:
    """Returns what a run that is begun chose, see `training.choosing`; None where it chose nothing, or is not begun.

    Raises:
      UserError: config.json is damaged.
    """
    saved = _saved(workdir) if is_begun(workdir) else None
    if saved is None or CHOSEN not in saved:
        return None
    chosen = schema.check(saved[CHOSEN], _CHOSEN, f"{workdir / CONFIG_JSON}: {CHOSEN}")
    # An axis that triarch did not have then was of size 1.
    return chosen | {"mesh": {axis: chosen["mesh"].get(axis) or 1 for axis in AXES}}


def is_run(folder: Path) -> bool:
    """Returns whether a folder holds a run with checkpoints; an export has none."""
    return (folder / CONFIG_JSON).is_file() and (folder / CHECKPOINTS).is_dir()


def is_begun(workdir: Path) -> bool:
    """Returns whether a step of a run folder's was saved or logged; one that failed before that binds to nothing."""
    log = workdir / METRICS
    return bool(saved_steps(workdir)) or (log.exists() and log.stat().st_size > 0)


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
    if stores[0].manifest.labels is not None:
        identity["labels"] = dataclasses.asdict(stores[0].manifest.labels)
    if isinstance(config.data.store, StoreMixture):
        identity["mixture"] = _mixture(to_plain(config.data.store))
    return json.loads(json.dumps(identity))


def _mixture(store: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the phases of a mixture by their numbers, without the folders of its stores."""
    return {f"phases[{number}]": phase for number, phase in enumerate(store["phases"])}


def _by_phase(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what config.json holds with a run's phases by name, so that they can be compared key by key."""
    phases = identity.get("phases") or []
    if not all(isinstance(phase, dict) and isinstance(phase.get("name"), str) for phase in phases):
        return dict(identity)
    named = {}
    for phase in phases:
        store = (phase.get("data") or {}).get("store")
        named[phase["name"]] = phase | ({"mixture": _mixture(store)} if isinstance(store, dict) else {})
    names = {"phase_names": list(named)} if named else {}
    return {**identity, "phases": named, **names}


def _is_history(key: str) -> bool:
    return key.partition(".")[0] in HISTORY_KEYS


def _free(key: str) -> bool:
    # A phase has fields of the run.
    own = key.split(".", 2)[2] if key.startswith("phases.") and key.count(".") > 1 else key
    # A module may be edited and moved: that it was is said, see `registry.check_origins`.
    return registry.ORIGIN in key.split(".") or any(own == free or own.startswith(f"{free}.") for free in FREE_KEYS)

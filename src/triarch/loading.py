"""`triarch.load`: one way in for everything that holds a trained network."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from triarch.data.manifest import VOCABULARY
from triarch.errors import UserError, nearest
from triarch.interchange import LoadedModel, Origin, Placement, is_export, model_config, orbax_folder, read_export
from triarch.interchange import parameters as tensors
from triarch.models import Execution, ModelConfig

RUN_CONFIG = "config.json"
CHECKPOINTS = "checkpoints"


def load(
    path: str | os.PathLike[str],
    *,
    step: int | None = None,
    execution: Execution | None = None,
    placement: Placement | None = None,
) -> LoadedModel:
    """Loads a run's workdir (its newest whole checkpoint) or an export.

    Args:
      path: the folder.
      step: of a run, load the checkpoint of this step instead.
      execution: how the network is to be computed.
      placement: where it is to live; one device by default, whatever mesh wrote it.

    Raises:
      UserError: the folder holds neither, or what it holds is not whole.
    """
    folder, execution = Path(path), execution or Execution()
    if (folder / RUN_CONFIG).is_file() and (folder / CHECKPOINTS).is_dir():
        return _read_run(folder, step, execution, placement or Placement.one_device())
    if not folder.is_dir():
        siblings = [sibling.name for sibling in folder.parent.glob("*/") if not sibling.name.startswith(".")]
        raise UserError(f"{folder}: no such run or export{nearest(folder.name, siblings)}")
    if not is_export(folder):
        raise UserError(f"{folder}: neither a run with checkpoints nor an export")
    if step is not None:
        raise UserError(f"{folder}: an export holds one step: none can be chosen")
    return read_export(folder, execution, placement)


def _read_run(
    workdir: Path,
    step: int | None,
    execution: Execution,
    placement: Placement,
) -> LoadedModel:
    fields = _read_config(workdir / RUN_CONFIG)
    config = model_config(fields["model"], str(workdir / RUN_CONFIG))
    step, values = _restore(workdir / CHECKPOINTS, step, config, placement)
    vocabulary_files = workdir / VOCABULARY
    return LoadedModel(
        path=workdir,
        model=tensors.assemble(config, execution, values, placement.constrain),
        origin=Origin(
            objective=fields["objective"],
            vocabulary=fields["vocabulary"],
            step=step,
            source={"run": workdir.absolute().name, "store_fingerprint": fields["store_fingerprint"]},
        ),
        placement=placement,
        vocabulary_files=vocabulary_files if vocabulary_files.is_dir() else None,
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return {key: fields[key] for key in ("model", "objective", "vocabulary", "store_fingerprint")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the config of a run: {type(error).__name__}: {error}") from None


def _restore(
    folder: Path, step: int | None, config: ModelConfig, placement: Placement
) -> tuple[int, Mapping[str, jax.Array]]:
    """Reads the parameters at `step`, or at the newest step that is whole; changes nothing in the run."""
    steps = sorted((int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()), reverse=True)
    if not steps:
        raise UserError(f"{folder}: the run has no checkpoint yet")
    if step is not None and step not in steps:
        raise UserError(f"{folder}: no checkpoint of step {step} (there are {', '.join(map(str, sorted(steps)))})")
    faults = []
    for candidate in steps if step is None else [step]:
        try:
            values = _restore_step(folder / str(candidate), config, placement)
        except UserError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            print(f"triarch: {fault}; using step {candidate}", file=sys.stderr)
        return candidate, values
    raise UserError(f"{folder}: no whole checkpoint: {faults[0]}")


def _restore_step(checkpoint: Path, config: ModelConfig, placement: Placement) -> dict[str, jax.Array]:
    from triarch.training.checkpoints import PARAMS, find_faults

    faults = find_faults(checkpoint, (PARAMS,))
    if faults:
        raise UserError(f"checkpoint {checkpoint.name} is damaged ({faults[0]})")
    specs = tensors.specs(config)
    tensors.check(specs, orbax_folder.shapes(checkpoint / PARAMS), str(checkpoint / PARAMS))
    wanted = {name: jax.ShapeDtypeStruct(spec.shape, jnp.float32) for name, spec in specs.items()}
    return orbax_folder.load(checkpoint / PARAMS, wanted, placement.parameters(specs))

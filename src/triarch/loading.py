"""`triarch.load`: one way in for everything that holds a trained network."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import jax

from triarch import registry, schema
from triarch.data.manifest import FILE_NAME, VOCABULARY, parse_vocabulary
from triarch.errors import UserError, nearest
from triarch.interchange import (
    LoadedModel,
    Origin,
    Placement,
    StoredModel,
    is_export,
    model_config,
    open_export,
    orbax_folder,
    read_export,
)
from triarch.interchange import parameters as tensors
from triarch.models import Execution, ModelConfig, Network
from triarch.models.network import Specs, specs, unflatten
from triarch.objectives import kept_head
from triarch.remote import was_remote
from triarch.schema import Anything, MapOf, OrNull, Record, Text, Whole

if TYPE_CHECKING:
    from triarch.text_model import Model
    from triarch.tokenizers import Tokenizer
    from triarch.training.adapted_run import AdaptedRun

RUN_CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
_RUN_CONFIG_SCHEMA = Record(
    {
        "model": MapOf(Anything()),
        "objective": MapOf(Anything()),
        "vocabulary": MapOf(Anything()),
        "store_fingerprint": Text(),
        "data": Record({"window": Whole(1)}, others=True),
        "labels": OrNull(MapOf(Anything())),
        "adapter": OrNull(MapOf(Anything())),
        "dropout": OrNull(MapOf(Anything())),
        "init_from": OrNull(Text()),
    },
    others=True,
)

T = TypeVar("T")
# Of a run: a checkpoint's number, the best one by the run's own metric, or None for the newest whole one.
Step = int | Literal["best"] | None


def load(
    path: str | os.PathLike[str],
    *,
    step: Step = None,
    execution: Execution | None = None,
    placement: Placement | None = None,
) -> LoadedModel:
    """Loads a run's workdir (its newest whole checkpoint) or an export.

    Args:
      path: the folder.
      step: of a run, load the checkpoint of this step instead, or the "best" one (`CheckpointConfig.keep_best`).
      execution: how the network is to be computed.
      placement: where it is to live; one device by default, whatever mesh wrote it.

    Raises:
      UserError: the folder holds neither, what it holds is not whole, or it was trained with an objective of a module
        that was not imported.
    """
    folder, execution = Path(path), execution or Execution()
    if _is_run(folder, step):
        return _read_run(folder, step, execution, placement or Placement.one_device())
    return read_export(folder, execution, placement)


def load_text_model(path: str | os.PathLike[str], **options: Any) -> Model:
    """Loads a run, an export or a Hugging Face folder as a model that reads and writes text.

    A Hugging Face folder is read as `triarch import` reads it, into memory; nothing is written.

    Args:
      path: the folder.
      options: those of `load`; a Hugging Face folder has no `step`.

    Raises:
      UserError: the folder holds none of these, or what it holds is not whole.
    """
    from triarch.text_model import Model

    folder = Path(path)
    is_other = is_export(folder) or (folder / CHECKPOINTS).is_dir()
    if is_other or not (any(folder.glob("*.safetensors*")) and (folder / RUN_CONFIG).is_file()):
        return Model.of(load(path, **options))
    if options.pop("step", None) is not None:
        raise UserError(f"{folder}: a Hugging Face folder holds one step: none can be chosen")
    from triarch.interchange.huggingface import open_folder, read_folder

    try:
        from triarch.tokenizers import given_tokenizer

        tokenizer: Tokenizer | None = given_tokenizer(folder)
    except (UserError, ImportError) as error:
        print(f"triarch: {folder}: without a vocabulary: {error}", file=sys.stderr)
        tokenizer = None
    vocabulary = None if tokenizer is None else dataclasses.asdict(tokenizer.info)
    return Model.of(read_folder(open_folder(folder), vocabulary=vocabulary, **options), tokenizer)


def tokenizer_of(model: LoadedModel | StoredModel) -> Tokenizer:
    """Returns the tokenizer of a model's vocabulary.

    Raises:
      UserError: the vocabulary is unknown, or its files are missing or damaged.
    """
    from triarch.data.manifest import Vocabulary
    from triarch.tokenizers import read_tokenizer
    from triarch.tokenizers.bytes import KIND

    if model.vocabulary is None:
        raise UserError(f"{model.path} does not say which vocabulary it was trained on, so it cannot read text")
    info = Vocabulary(**model.vocabulary)
    if model.vocabulary_files is None and info.kind != KIND:
        raise UserError(f"{model.path}: the files of its vocabulary are missing, so it cannot read text")
    return read_tokenizer(info, model.vocabulary_files or model.path, str(model.path))


def checkpoint_steps(path: str | os.PathLike[str], *, step: Step = None) -> list[int]:
    """Returns the steps of a run's checkpoints, ascending; nothing for an export.

    Args:
      path: the folder.
      step: of a run, only the checkpoint of this step, or the "best" one.

    Raises:
      UserError: the folder holds neither, or there is no checkpoint (of that step).
    """
    folder = Path(path)
    return _steps(folder, step)[::-1] if _is_run(folder, step) else []


def open_stored(path: str | os.PathLike[str], *, step: Step = None) -> StoredModel:
    """Opens a run's workdir (its newest whole checkpoint) or an export to read its parameters one by one.

    Args:
      path: the folder.
      step: of a run, open the checkpoint of this step instead, or the "best" one.

    Raises:
      UserError: the folder holds neither, or what it holds is not whole.
    """
    folder = Path(path)
    if not _is_run(folder, step):
        return open_export(folder)
    fields_at = _read_config(folder / RUN_CONFIG)
    adapted = _adapted(folder, fields_at(0))
    if adapted is not None:
        return _open_adapted(folder, fields_at(0), _network(folder, fields_at(0)), adapted, step)
    step, parameters = _newest_whole(
        folder, step, lambda step: specs(_network(folder, fields_at(step))), lambda parameters, _: parameters
    )
    fields = fields_at(step)
    return StoredModel(
        folder, _network(folder, fields), _origin(folder, fields, step), parameters, _vocabulary_files(folder)
    )


def _has_checkpoints(folder: Path) -> bool:
    return (folder / RUN_CONFIG).is_file() and (folder / CHECKPOINTS).is_dir()


def _is_run(folder: Path, step: Step) -> bool:
    """Whether the folder holds a run; otherwise it holds an export."""
    if _has_checkpoints(folder):
        return True
    if not folder.is_dir():
        if was_remote(folder):
            raise UserError(f"{folder}: only flags of the command line read from buckets: copy it to a local folder")
        siblings = [sibling.name for sibling in folder.parent.glob("*/") if not sibling.name.startswith(".")]
        raise UserError(f"{folder}: no such run or export{nearest(folder.name, siblings)}")
    if not is_export(folder):
        if (folder / FILE_NAME).is_file():
            schema.read(folder / FILE_NAME, MapOf(Anything(), least=1))  # One that is damaged says so.
        hint = " (take a Hugging Face model with `triarch import`)" if any(folder.glob("*.safetensors*")) else ""
        raise UserError(f"{folder}: neither a run with checkpoints nor an export{hint}")
    if step is not None:
        raise UserError(f"{folder}: an export holds one step: none can be chosen")
    return False


def _read_run(
    workdir: Path,
    step: Step,
    execution: Execution,
    placement: Placement,
) -> LoadedModel:
    fields_at = _read_config(workdir / RUN_CONFIG)

    @functools.cache
    def network_at(step: int) -> Network:
        fields = fields_at(step)
        registry.check_origins(fields["objective"], str(workdir))
        config = _network(workdir, fields)
        make_head = kept_head(fields["objective"], config, str(workdir))
        return Network(config, execution, placement.constrain, make_head=make_head)

    adapted = _adapted(workdir, fields_at(0))
    if adapted is None:
        step, values = _newest_whole(workdir, step, lambda step: network_at(step).specs, _reader(placement))
        network, params = network_at(step), unflatten(values)
    else:
        network = network_at(0)
        base = load(adapted.base, step=adapted.base_step, execution=execution, placement=placement)
        step, params = _with_adapters(workdir, network.config, adapted, base.params, step, placement)
    fields = fields_at(step)
    return LoadedModel(
        path=workdir,
        network=network,
        params=params,
        origin=_origin(workdir, fields, step),
        placement=placement,
        vocabulary_files=_vocabulary_files(workdir),
    )


def is_adapted(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a run of adapters, whose parameters are sums with those of another model."""
    folder = Path(path)
    return _has_checkpoints(folder) and schema.read(folder / RUN_CONFIG, _RUN_CONFIG_SCHEMA).get("adapter") is not None


def _adapted(workdir: Path, fields: dict[str, Any]) -> AdaptedRun | None:
    if fields.get("adapter") is None:
        return None
    from triarch.training.adapted_run import adapted_run

    return adapted_run(workdir, fields)


def _with_adapters(
    workdir: Path, config: ModelConfig, adapted: AdaptedRun, base: Any, step: Step, placement: Placement
) -> tuple[int, Any]:
    """Returns the step of a run's adapters, and the parameters of the network with them folded in."""
    from triarch.models.adapters.network import AdaptedNetwork
    from triarch.training.adapted_run import adapter_specs

    network = AdaptedNetwork(config, adapted.adapter)
    known = adapter_specs(network.specs)
    step, values = _newest_whole(workdir, step, lambda _: known, _reader(placement))
    return step, network.folded(network.completed(unflatten(values), network.of_base(base)))


def _open_adapted(
    workdir: Path, fields: dict[str, Any], config: ModelConfig, adapted: AdaptedRun, step: Step
) -> StoredModel:
    """Opens a run of adapters with its base, which is read one parameter at a time."""
    from triarch.models.adapters.network import AdaptedNetwork
    from triarch.training.adapted_run import AdaptedStoredModel, adapter_specs, updates_of

    known = adapter_specs(AdaptedNetwork(config, adapted.adapter).specs)
    step, values = _newest_whole(workdir, step, lambda _: known, _reader(Placement.one_device()))
    base = open_stored(adapted.base, step=adapted.base_step)
    return AdaptedStoredModel(
        workdir,
        config,
        _origin(workdir, fields, step),
        base.parameters,
        _vocabulary_files(workdir),
        base=base,
        adapter=adapted.adapter,
        dropout=adapted.dropout,
        updates=updates_of(config, adapted.adapter, values),
    )


def _network(workdir: Path, fields: dict[str, Any]) -> ModelConfig:
    """Returns a run's network; its padding is that of the vocabulary, whatever its family pads with elsewhere."""
    return model_config({**fields["model"], "pad_id": fields["pad"]}, str(workdir / RUN_CONFIG))


def _origin(workdir: Path, fields: dict[str, Any], step: int) -> Origin:
    from triarch.training.record.origin import run_origin

    return run_origin(workdir, fields, step)


def _vocabulary_files(workdir: Path) -> Path | None:
    return workdir / VOCABULARY if (workdir / VOCABULARY).is_dir() else None


def _read_config(path: Path) -> Callable[[int], dict[str, Any]]:
    """Returns a function that gives what is to be known of a run's checkpoint by its step; phases may differ."""
    from triarch.training.phases.at_step import settings_at
    from triarch.training.record.fingerprint import config_fingerprint

    whole = schema.read(path, _RUN_CONFIG_SCHEMA)
    parse_vocabulary(whole["vocabulary"], f"{path}: vocabulary")
    fingerprint = config_fingerprint(whole)

    def fields_at(step: int) -> dict[str, Any]:
        fields = schema.check(settings_at(whole, step), _RUN_CONFIG_SCHEMA, str(path))
        found = {key: fields[key] for key in ("model", "objective", "vocabulary", "store_fingerprint")}
        found |= {"window": fields["data"]["window"], "pad": fields["vocabulary"]["special"]["pad"]}
        found["labels"] = whole.get("labels")
        found |= {key: whole.get(key) for key in ("adapter", "init_from", "dropout")}
        return found | {"fingerprint": fingerprint}

    return fields_at


def _newest_whole(
    workdir: Path, step: Step, specs_at: Callable[[int], Specs], read: Callable[[Path, Specs], T]
) -> tuple[int, T]:
    """Returns the step and content of the checkpoint of `step`, or of the newest whole one; the run stays as it is.

    Args:
      workdir: the run folder.
      step: as for `load`.
      specs_at: gives the parameters that the checkpoint of a step must hold; what it raises is no fault of the
        checkpoint.
      read: given the folder of a checkpoint's parameters, and these.
    """
    faults = []
    for candidate in _steps(workdir, step):
        known = specs_at(candidate)
        try:
            found = read(_check_step(workdir / CHECKPOINTS / str(candidate), known), known)
        except UserError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            print(f"triarch: {fault}; using step {candidate}", file=sys.stderr)
        return candidate, found
    raise UserError(f"{workdir / CHECKPOINTS}: no whole checkpoint: {faults[0]}")


def _steps(workdir: Path, step: Step) -> list[int]:
    """Returns the steps there are, newest first, or `step` alone."""
    from triarch.training.record.fingerprint import saved_steps

    folder, steps = workdir / CHECKPOINTS, saved_steps(workdir)[::-1]
    if not steps:
        raise UserError(f"{folder}: the run has no checkpoint yet")
    if step == "best":
        step = _best(workdir, steps)
    if step is not None and step not in steps:
        raise UserError(f"{folder}: no checkpoint of step {step} (there are {', '.join(map(str, reversed(steps)))})")
    return steps if step is None else [step]


def _best(workdir: Path, steps: list[int]) -> int:
    from triarch.training.best import best_step

    fields = schema.read(workdir / RUN_CONFIG, _RUN_CONFIG_SCHEMA)
    return best_step(workdir, fields.get("checkpoint") or {}, steps)


def _check_step(checkpoint: Path, expected: Specs) -> Path:
    """Makes sure that a checkpoint's parameters are whole and the network's; returns their folder."""
    from triarch.training.checkpoints import PARAMS, find_faults

    faults = find_faults(checkpoint, (PARAMS,))
    if faults:
        raise UserError(f"checkpoint {checkpoint.name} is damaged ({faults[0]})")
    parameters = checkpoint / PARAMS
    has_head = any(map(tensors.is_of_head, expected))
    stored = orbax_folder.shapes(parameters)
    tensors.check(expected, stored if has_head else tensors.of_network(stored), str(parameters))
    return parameters


def _reader(placement: Placement) -> Callable[[Path, Specs], dict[str, jax.Array]]:
    """Returns a function that reads parameters from a folder, each to where it belongs."""
    return functools.partial(orbax_folder.load_parameters, placement=placement)

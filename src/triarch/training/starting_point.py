"""Training that begins from parameters of a run or an export: fine-tuning, further phases, imported models."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from triarch import schema
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.files import write_whole
from triarch.interchange import Placement, model_config, orbax_folder, parameters, read_export, read_manifest
from triarch.interchange.manifest import TUNED_FROM
from triarch.models import ModelConfig, Network
from triarch.models.adapters.network import AdaptedNetwork
from triarch.models.network import Tree, flatten, specs, unflatten
from triarch.models.shape import Side
from triarch.objectives import TokenObjective
from triarch.objectives.labels.classifier_head import is_headless
from triarch.schema import Anything, MapOf, OrNull, Record, Text, Whole
from triarch.training.adaptation import SIDES, Adaptation, adaptation, is_adaptation
from triarch.training.checkpoints import OPTIMIZER, PARAMS, RECORD, find_faults
from triarch.training.config import RunConfig
from triarch.training.phases.at_step import settings_at
from triarch.training.phases.course import open_course
from triarch.training.phases.stages import stages
from triarch.training.record.config_json import from_plain, read_json
from triarch.training.record.fingerprint import BEGAN_FROM, CHECKPOINTS, CONFIG_JSON, is_begun, is_run, saved_steps
from triarch.training.record.segments import Segment, optimizer_shapes, read_earlier, read_order
from triarch.training.state import TrainState

# Of a starting point, what a run keeps: see `StartingPoint.taken`.
TAKEN = Record({"step": OrNull(Whole()), "parameters": Text()})
# These say how parameters begin, which an export has behind it; the padding is that of the vocabulary.
_NO_DIFFERENCE = ("kernel_init", "init_std", "embedding_init_std", "pad_id")
# Of an encoder-decoder, what a decoder alone has no need of.
_OF_BOTH_SIDES = (
    *("num_encoder_layers", "num_decoder_layers", "decoder_", "shared_embeddings", "cross_attention_rope"),
    *("tied_embeddings",),
)


@dataclasses.dataclass(frozen=True)
class StartingPoint:
    """A run's checkpoint, or an export, whose parameters fit a run's network.

    Attributes:
      folder: the run or export.
      step: updates that were made there; None if an export does not know.
      parameters: fingerprint of what is there: an export's own, or sha256 of the list of the checkpoint's files with
        their sizes and checksums.
      differences: options in which the run's network is another, as "option: value there -> value here".
      checkpoint: folder of the run's checkpoint; None for an export.
      optimizer: whether the optimizer's state is taken over too.
      segment: the segment of that run whose place in the data is taken over; None for none.
      imported: what the Hugging Face folder said that all began with, for exports; None where there was none.
      config: the network whose parameters lie there.
      adaptation: how they become those of an encoder-decoder; None: they are the run's own.
      encoder: what the encoder begins as, with an `adaptation`; None: as the decoder does.
      renamed: of parameters under another mask, the run's name of each; None: it has the same.
    """

    folder: Path
    step: int | None
    parameters: str
    differences: tuple[str, ...]
    checkpoint: Path | None = None
    optimizer: bool = False
    segment: Segment | None = None
    imported: Mapping[str, Any] | None = None
    config: ModelConfig | None = None
    adaptation: Adaptation | None = None
    encoder: StartingPoint | None = None
    renamed: Mapping[str, str] | None = None

    @property
    def taken(self) -> dict[str, Any]:
        """Which parameters are taken over, as a run's config.json keeps it: part of what the run is."""
        return {"step": self.step, "parameters": self.parameters}

    def describe(self) -> str:
        """Returns a line for the user: what is taken over, and what is not."""
        step = "" if self.step is None else f" of step {self.step}"
        taken = f"from the parameters{' and the optimizer state' if self.optimizer else ''} of {self.folder}{step}"
        if self.checkpoint is not None:
            optimizer = "" if self.optimizer else ", with a fresh optimizer"
            data = "reading on after its data" if self.segment is not None else "reading the data from the beginning"
            taken = f"{taken}{optimizer}, {data}"
        if self.adaptation is not None:
            encoder = "" if self.encoder is None else f", the encoder from {self.encoder.folder}"
            cross = "as its self-attention" if self.adaptation.copies_cross else "afresh"
            taken = f"{taken}, made an encoder-decoder{encoder}; cross-attention begins {cross}"
        if self.renamed is not None and self.config is not None:
            taken = f"{taken}, under the mask of {'an encoder' if self.config.num_decoder_layers else 'a decoder'}"
        changed = f"; the network differs in {'; '.join(self.differences)}" if self.differences else ""
        return f"{taken}{changed}"

    def write(self, workdir: Path) -> None:
        """Keeps in a run what the Hugging Face folder said that it began with, if there is one, for its export."""
        if self.imported is not None:
            kept = {key: self.imported.get(key) for key in ("huggingface", "config", "generation_config")}
            write_whole(workdir / f"{TUNED_FROM}.json", json.dumps(kept, indent=2) + "\n")

    def state(self, fresh: TrainState, target: TrainState, placement: Placement, network: Network) -> TrainState:
        """Returns `fresh` with what is taken over, in the shapes and shardings of `target`.

        Of the head of an objective each parameter is taken over where one of the same shape is stored, and else stays
        fresh.

        Raises:
          UserError: the export is damaged.
        """
        taken = self._taken_over(target.params, placement, network)
        state = fresh._replace(params=network.completed(taken, fresh.params))
        if self.optimizer and self.checkpoint is not None:
            state = state._replace(opt_state=orbax_folder.restore(self.checkpoint / OPTIMIZER, target.opt_state))
        return state

    def _taken_over(self, target: Tree, placement: Placement, network: Network) -> Tree:
        """Returns those of a run's parameters that are taken over, in the shardings of `target`."""
        if isinstance(network, AdaptedNetwork):
            return self.base(target, placement, network)
        places = flatten(target)
        if self.adaptation is not None:
            decoder = flatten(self.read(placement))
            encoder = decoder if self.encoder is None else flatten(self.encoder.read(placement))
            begun = self.adaptation.parameters({"decoder": decoder, "encoder": encoder})
        elif self.renamed is not None:
            found = flatten(self.read(placement))
            begun = {new: found[old] for old, new in self.renamed.items()}
        elif self.checkpoint is None:
            loaded = flatten(read_export(self.folder, placement=placement, every_tensor=True).params)
            begun = {name: loaded[name] for name, like in places.items() if _is_there(name, like, loaded)}
        else:
            stored = _stored_part(self.checkpoint / PARAMS, target)
            return orbax_folder.restore(self.checkpoint / PARAMS, stored)
        return unflatten({name: jax.device_put(value, places[name].sharding) for name, value in begun.items()})

    def read(self, placement: Placement) -> Tree:
        """Returns the parameters of `config` that lie there.

        Raises:
          UserError: the export is damaged.
        """
        if self.checkpoint is None:
            return read_export(self.folder, placement=placement).params
        return unflatten(orbax_folder.load_parameters(self.checkpoint / PARAMS, specs(self.config), placement))

    def base(self, target: Tree, placement: Placement, network: AdaptedNetwork) -> Tree:
        """Returns the parameters that adapters stand beside, as the network holds them, in the shardings of `target`.

        Raises:
          UserError: the export is damaged.
        """
        if self.checkpoint is None:
            params = read_export(self.folder, placement=placement).params
        else:
            stored = orbax_folder.shapes(self.checkpoint / PARAMS)
            wanted = {name: spec for name, spec in network.base_specs.items() if stored.get(name) == spec.shape}
            params = unflatten(orbax_folder.load_parameters(self.checkpoint / PARAMS, wanted, placement))
        places = {name: leaf.sharding for name, leaf in flatten(target).items()}
        held = flatten(network.of_base(params))
        return unflatten({name: jax.device_put(value, places[name]) for name, value in held.items()})


def open_starting_point(config: RunConfig, store: TokenStore, workdir: Path | None = None) -> StartingPoint:
    """Makes sure that what `config.init_from` names fits the run's network and store; touches no device.

    Args:
      config: of the run.
      store: that it reads.
      workdir: of the run, where there is one: once a step was made, it begins with the same parameters again.

    Raises:
      UserError: there is no run or export, or its parameters are not those that the run took before; a parameter is
        missing, is one too many or has another shape (named); its vocabulary is known and is not the store's; the run
        has no such checkpoint, or its optimizer's state is another.
    """
    assert config.init_from is not None
    folder = Path(config.init_from)
    taken = None if workdir is None else read_taken(workdir)
    pinned = config if taken is None or not is_run(folder) else dataclasses.replace(config, init_step=taken["step"])
    there = _network_of(folder)
    if is_adaptation(config.model, there):
        start = _adapted(folder, pinned, there, store)
    elif config.init_encoder_from is not None:
        raise UserError(
            f"RunConfig.init_encoder_from = {config.init_encoder_from!r}: goes with an encoder-decoder that begins as "
            f"a decoder alone; RunConfig.init_from = {str(folder)!r} is {there.architecture}"
        )
    elif {there.architecture, config.model.architecture} == {"encoder-only", "decoder-only"}:
        start = _under_other_mask(folder, pinned, there, store)
    else:
        start = _open(folder, pinned, store)
    if taken is not None and start.taken != taken:
        raise UserError(
            f"RunConfig.init_from = {str(folder)!r}: holds other parameters than those that {workdir} began with: put "
            "these back, or choose another --workdir"
        )
    return start


def _open(folder: Path, config: RunConfig, store: TokenStore) -> StartingPoint:
    return _from_run(folder, config, store) if is_run(folder) else _from_export(folder, config, store)


def open_parameters(folder: Path, config: RunConfig, store: TokenStore, name: str, step: int | None) -> StartingPoint:
    """Returns where the parameters of a network lie.

    Args:
      folder: run or export.
      config: of a run of that network.
      store: whose vocabulary it is to have.
      name: what messages call the folder.
      step: of a run's checkpoint; None for the newest whole one.

    Raises:
      UserError: as `open_starting_point`.
    """
    try:
        return _open(folder, dataclasses.replace(config, init_step=step if is_run(folder) else None), store)
    except UserError as error:
        raise UserError(str(error).replace(f"RunConfig.init_from = {str(folder)!r}", name)) from None


def _network_of(folder: Path) -> ModelConfig:
    """Returns the network whose parameters lie in a run or an export."""
    if is_run(folder):
        return model_config(read_json(folder).get("model") or {}, str(folder / CONFIG_JSON))
    return read_manifest(folder).config


def _adapted(folder: Path, config: RunConfig, there: ModelConfig, store: TokenStore) -> StartingPoint:
    """Returns the decoder-only parameters that an encoder-decoder begins from."""
    for field in ("init_optimizer", "init_data"):
        if getattr(config, field):
            raise UserError(
                f"RunConfig.{field}: {folder} is a decoder alone, which had another optimizer state and data"
            )
    if config.adapter is not None:
        raise UserError(f"RunConfig.adapter: {folder} is a decoder alone: first train the encoder-decoder made of it")
    decoder = _open(folder, dataclasses.replace(config, model=there), store)
    names: dict[Side, str] = dict.fromkeys(SIDES, f"RunConfig.init_from = {str(folder)!r}")
    encoder, encoder_network, parameters_there = None, there, decoder.parameters
    if config.init_encoder_from is not None:
        other = Path(config.init_encoder_from)
        names["encoder"] = f"RunConfig.init_encoder_from = {str(other)!r}"
        encoder_network = _network_of(other)
        if encoder_network.architecture != "decoder-only":
            raise UserError(f"{names['encoder']}: is {encoder_network.architecture}: expected decoder-only parameters")
        if config.model.shared_embeddings:
            raise UserError(f"{names['encoder']}: has embeddings of its own: set ModelConfig.shared_embeddings = False")
        encoder = _open(other, dataclasses.replace(config, model=encoder_network, init_step=None), store)
        parameters_there = hashlib.sha256(f"{decoder.parameters}\n{encoder.parameters}".encode()).hexdigest()
    made = adaptation(config.model, there, encoder_network, names)
    differences = [
        f"{side}'s {difference}"
        for side, network in zip(SIDES, (encoder_network, there), strict=True)
        for difference in _differences(network, config.model.of_side(side))
        if not difference.startswith(_OF_BOTH_SIDES)
    ]
    # How the source's text began and ended says nothing of an encoder-decoder's.
    return dataclasses.replace(
        decoder,
        parameters=parameters_there,
        differences=tuple(differences),
        imported=None,
        adaptation=made,
        encoder=encoder,
    )


def _under_other_mask(folder: Path, config: RunConfig, there: ModelConfig, store: TokenStore) -> StartingPoint:
    """Returns the parameters of a decoder that an encoder begins from, or the other way round: the same ones."""
    for field in ("init_optimizer", "init_data"):
        if getattr(config, field):
            raise UserError(
                f"RunConfig.{field}: {folder} is {there.architecture}, this run is {config.model.architecture}: "
                "parameters alone are taken over under another mask"
            )
    if config.adapter is not None:
        raise UserError(f"RunConfig.adapter: {folder} is {there.architecture}: first train under the other mask")
    start = _open(folder, dataclasses.replace(config, model=there), store)
    old, new = ("decoder", "encoder") if there.num_decoder_layers else ("encoder", "decoder")
    renamed = {name: _of_side(name, old, new) for name in specs(there)}
    shapes = {renamed[name]: spec.shape for name, spec in specs(there).items()}
    parameters.check(specs(config.model), shapes, f"RunConfig.init_from = {str(folder)!r}")
    differences = tuple(
        one for one in _differences(there, config.model) if not one.startswith(("num_encoder_", "num_decoder_"))
    )
    # How the source's text began and ended says nothing of what is read under the other mask.
    return dataclasses.replace(start, differences=differences, imported=None, renamed=renamed)


def _of_side(name: str, old: str, new: str) -> str:
    """Returns what a parameter of one side is called on the other."""
    first, slash, rest = name.partition("/")
    return f"{new}{first.removeprefix(old)}{slash}{rest}" if first in (old, f"{old}_input") else name


def read_taken(workdir: Path) -> dict[str, Any] | None:
    """Returns what a run folder says that its run began from; None where no step was made, or it began from nothing.

    Raises:
      UserError: config.json is damaged.
    """
    if not is_begun(workdir) or not (workdir / CONFIG_JSON).is_file():
        return None
    taken = read_json(workdir).get(BEGAN_FROM)
    return None if taken is None else schema.check(taken, TAKEN, f"{workdir / CONFIG_JSON}: {BEGAN_FROM}")


def parameters_fingerprint(folder: Path, step: int | None) -> str:
    """Returns what `StartingPoint.parameters` is of an export, or of a run's checkpoint of `step`.

    Raises:
      UserError: it cannot be read.
    """
    if step is None:
        return read_manifest(folder).fingerprint
    record = folder / CHECKPOINTS / str(step) / PARAMS / RECORD
    try:
        return hashlib.sha256(record.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{record}: cannot be read: {error.strerror or error}") from None


def to_be_taken(config: RunConfig, store: TokenStore) -> dict[str, Any] | None:
    """Returns which parameters a run of `config` would begin from now; None for fresh ones.

    Raises:
      UserError: as `open_starting_point`.
    """
    return None if config.init_from is None else open_starting_point(config, store).taken


def _from_export(folder: Path, config: RunConfig, store: TokenStore) -> StartingPoint:
    manifest = read_manifest(folder)
    for field in ("init_step", "init_optimizer", "init_data"):
        if getattr(config, field) not in (None, False):
            raise UserError(f"RunConfig.{field}: {folder} is an export, which holds the parameters of one step alone")
    _check_vocabulary(folder, manifest.origin.vocabulary, store)
    stored = {name: tensor.shape for name, tensor in manifest.tensors.items()}
    parameters.check(specs(config.model), _of_use(stored, config), f"RunConfig.init_from = {str(folder)!r}")
    differences = _differences(manifest.config, config.model)
    origin = manifest.origin
    return StartingPoint(
        folder, origin.step, manifest.fingerprint, differences, imported=origin.imported, config=manifest.config
    )


def _from_run(folder: Path, config: RunConfig, store: TokenStore) -> StartingPoint:
    fields, where = read_json(folder), str(folder / CONFIG_JSON)
    if fields.get("adapter") is not None:
        raise UserError(
            f"RunConfig.init_from = {str(folder)!r}: is a run of adapters, which go with another model: begin from "
            f"`triarch export --workdir={folder} --merge_adapter`"
        )
    _check_vocabulary(folder, fields.get("vocabulary"), store)
    step = _whole_step(folder / CHECKPOINTS, config)
    there = model_config(settings_at(fields, step).get("model") or {}, where)
    checkpoint = folder / CHECKPOINTS / str(step)
    named = f"RunConfig.init_from = {str(folder)!r}"
    parameters.check(specs(config.model), _of_use(orbax_folder.shapes(checkpoint / PARAMS), config), named)
    segment = None
    if config.init_optimizer or config.init_data:
        segment = _segment_at(folder, step, from_plain(fields, where), config.init_data)
        if config.init_optimizer and optimizer_shapes(segment.config) != optimizer_shapes(config):
            raise UserError(
                f"RunConfig.init_optimizer: the state of {type(segment.config.optimizer).__name__} in {folder} is none "
                f"of this run's {type(config.optimizer).__name__}"
            )
    return StartingPoint(
        folder=folder,
        step=step,
        parameters=parameters_fingerprint(folder, step),
        differences=_differences(there, config.model),
        checkpoint=checkpoint,
        optimizer=config.init_optimizer,
        segment=segment if config.init_data else None,
        imported=_imported(folder),
        config=there,
    )


def _whole_step(checkpoints: Path, config: RunConfig) -> int:
    """Returns the step of `config.init_step`, or of the newest checkpoint that is whole."""
    items = (PARAMS, OPTIMIZER) if config.init_optimizer else (PARAMS,)
    steps = saved_steps(checkpoints.parent)
    if config.init_step is not None and config.init_step not in steps:
        known = f"there are {', '.join(map(str, steps))}" if steps else "there is none yet"
        raise UserError(f"RunConfig.init_step = {config.init_step}: {checkpoints} has no checkpoint of it ({known})")
    faults = []
    for step in reversed(steps) if config.init_step is None else [config.init_step]:
        found = find_faults(checkpoints / str(step), items)
        if not found:
            return step
        faults.append(f"checkpoint {step} is damaged ({found[0]})")
    raise UserError(
        f"RunConfig.init_from: {checkpoints} has no whole checkpoint: {faults[0] if faults else 'none yet'}"
    )


def _segment_at(folder: Path, step: int, last: RunConfig, with_data: bool) -> Segment:
    """Returns the segment of a run that made its `step`-th update; of one in phases, its place if `with_data`."""
    order = read_order(folder)
    if order is None:
        raise UserError(f"{folder / CONFIG_JSON}: does not say where in its data the run is (data_order)")
    segments = (*read_earlier(folder), Segment(last, order))
    if last.phases and with_data:
        segments = open_course(last).going_on(order, segments[:-1]).inputs.segments
    elif last.phases:
        # Where its stores lie is no matter then.
        first = [dataclasses.replace(order, step=max(order.step, stage.first_step)) for stage in stages(last)]
        segments = (*segments[:-1], *(Segment(one.config, at) for one, at in zip(stages(last), first, strict=True)))
    return [segment for segment in segments if segment.order.step < max(step, 1)][-1]


def _imported(run: Path) -> dict[str, Any] | None:
    path = run / f"{TUNED_FROM}.json"
    return schema.read(path, MapOf(Anything())) if path.is_file() else None


def _stored_part(folder: Path, target: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `target` without what is no part of a stored head: an objective may have another, or a larger one."""
    stored = orbax_folder.shapes(folder)
    kept = {
        name: leaf
        for name, leaf in flatten(target).items()
        if not parameters.is_of_head(name) or stored.get(name) == leaf.shape
    }
    return unflatten(kept)


def _is_there(name: str, like: Any, loaded: Mapping[str, Any]) -> bool:
    """Returns whether an export has a parameter; the head's may be missing or have another shape."""
    return not parameters.is_of_head(name) or (name in loaded and loaded[name].shape == like.shape)


def _of_use(stored: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    """Returns what is stored without heads: those of objectives, and where labels are learnt that of the vocabulary."""
    network = parameters.of_network(stored)
    if isinstance(config.objective, TokenObjective):
        return network
    here = specs(config.model)
    return {name: value for name, value in network.items() if name in here or not is_headless(name)}


def _check_vocabulary(folder: Path, vocabulary: Mapping[str, Any] | None, store: TokenStore) -> None:
    if vocabulary is not None and vocabulary["fingerprint"] != store.manifest.vocabulary.fingerprint:
        raise UserError(
            f"RunConfig.init_from = {str(folder)!r}: its vocabulary is not that of {store.path}: "
            f"prepare the store again with --vocabulary={folder}"
        )


def _differences(there: ModelConfig, here: ModelConfig) -> tuple[str, ...]:
    names = [field.name for field in dataclasses.fields(here) if field.name not in _NO_DIFFERENCE]
    pairs = {name: (getattr(there, name), getattr(here, name)) for name in names}
    return tuple(f"{name}: {old!r} -> {new!r}" for name, (old, new) in pairs.items() if old != new)

"""From a study to its runs: every cell of the grid with what it is made of, what it costs and how near it is to what
was asked for."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from triarch.errors import UserError
from triarch.models import ModelConfig
from triarch.models.layers.parts import Convention
from triarch.sweeps.budgets import SequenceCost
from triarch.sweeps.shapes import Ladder
from triarch.sweeps.sizes import Size
from triarch.sweeps.study import Study
from triarch.training.config import RunConfig, validate

# The gin files of a family at a published size: recipe, model, settings.
FilesOf = Callable[[str, str], tuple[str, ...]]
# The run that gin files describe.
ConfigOf = Callable[[tuple[str, ...]], RunConfig]
_SHAPE = ("d_model", "d_ff", "num_heads", "num_kv_heads", "num_encoder_layers", "num_decoder_layers")


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One cell of a study's grid.

    Attributes:
      name: what the run is called, by its place in the grid.
      family: of models, a folder under gin_configs/models.
      size: a file in that folder, or the name of a target between them.
      gin_files: what the run is made of, in order.
      bindings: laid over them, "CLASS.FIELD" and value.
      config: what these make, its store not yet named.
      size_error: how far the size is from the ladder's target, as a fraction of it; None without one.
      budget: the level of the study's budget; None without one.
      budget_error: how far the run is from that level, which whole steps cannot always meet, as a fraction of it.
      folder: name of its folder: that of an earlier design in which the same run had another name; None for its own.
    """

    name: str
    family: str
    size: str
    gin_files: tuple[str, ...]
    bindings: tuple[tuple[str, object], ...]
    config: RunConfig
    size_error: float | None = None
    budget: float | None = None
    budget_error: float | None = None
    folder: str | None = None

    @property
    def owner(self) -> str:
        """What folders, claims and ledger call it, whatever the design does."""
        return self.folder or self.name

    @property
    def sequences(self) -> int:
        return self.config.steps * self.config.batch_size

    @property
    def tokens(self) -> int:
        """Tokens read."""
        return self.sequences * self.config.data.window

    @property
    def learning_rate(self) -> float:
        return self.config.optimizer.learning_rate.peak_rate

    def flops(self, convention: Convention) -> float:
        """Returns the FLOPs of the run, "paper" or "train"."""
        return self.sequences * sequence_cost(self.config, self.config.model).flops[convention]


def sequence_cost(config: RunConfig, model: ModelConfig) -> SequenceCost:
    """Returns what `model` costs under the objective and window of `config`."""
    objective = dataclasses.replace(config, model=model).bound()
    flops = {convention: objective.flops(model, convention) for convention in ("paper", "train")}
    return SequenceCost(
        model.num_params(), model.num_params_non_embedding(), flops, config.data.window, objective.num_scored
    )


def runs(study: Study, files_of: FilesOf, config_of: ConfigOf) -> tuple[PlannedRun, ...]:
    """Returns the grid, size by size.

    Raises:
      UserError: a run of it cannot be: the shape, the schedule or the budget does not fit.
    """
    found = []
    sizes = study.sizes.targets if isinstance(study.sizes, Ladder) else study.sizes
    for size in sizes:
        for family in study.families:
            base = _sized(study, family, size, files_of, config_of)
            own = size if isinstance(size, Size) else None
            found += [run for run in _grid(study, base, own) if run is not None]
    if any(run.config.phases for run in found):
        raise UserError("RunConfig.phases: the runs of a study have one phase: train a run in phases by itself")
    if not found:
        raise UserError("the study holds no run: no size fits IsoFlop.tokens_per_parameter at any budget")
    return tuple(found)


def _sized(study: Study, family: str, size: str | Size | float, files_of: FilesOf, config_of: ConfigOf) -> PlannedRun:
    """Returns the run of a family at a size as recipe and settings have it."""
    if isinstance(size, Size):
        files = files_of(family, size.file)
        config = config_of(files)
        own: dict[str, Any] = dict(size.bindings(config.model))
        bindings = {f"ModelConfig.{field}": value for field, value in own.items()}
        changes: dict[str, Any] = {"steps": size.steps, "batch_size": size.batch_size}
        changes = {field: value for field, value in changes.items() if value is not None}
        bindings |= {f"RunConfig.{field}": value for field, value in changes.items()}
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, **own), **changes)
        return PlannedRun(f"{family}_{size.name}", family, size.name, files, tuple(bindings.items()), config)
    if isinstance(size, str):
        files = files_of(family, size)
        return PlannedRun(f"{family}_{size}", family, size, files, (), config_of(files))
    ladder = study.sizes
    assert isinstance(ladder, Ladder)  # Whose targets are numbers.
    published = [config_of(files_of(family, name)) for name in ladder.between]

    def measure(model: ModelConfig) -> float:
        cost = sequence_cost(published[0], model)
        kind, _, which = ladder.measure.partition("_")
        return cost.flops[which] if kind == "flops" else cost.params(which or "all")

    shape = ladder.shape(size, [config.model for config in published], measure)
    files = files_of(family, ladder.between[0])
    config = config_of(files)
    own = {name: getattr(shape, name) for name in _SHAPE if getattr(shape, name) != getattr(config.model, name)}
    model = dataclasses.replace(config.model, **own)
    changed = tuple((f"ModelConfig.{name}", value) for name, value in own.items())
    config = dataclasses.replace(config, model=model)
    name = ladder.name(size)
    return PlannedRun(f"{family}_{name}", family, name, files, changed, config, measure(model) / size - 1)


def _grid(study: Study, base: PlannedRun, size: Size | None) -> Iterator[PlannedRun | None]:
    rates, batch_sizes = study.learning_rates, study.batch_sizes
    if size is not None:
        rates, batch_sizes = size.learning_rates or rates, () if size.batch_size else batch_sizes
    for rate, batch_size, seed in itertools.product(*map(_or_none, (rates, batch_sizes, study.seeds))):
        for level in study.budget.levels if study.budget else (None,):
            yield _cell(study, base, level, rate, batch_size, seed)


def _or_none(values: Sequence) -> Sequence:
    return values or (None,)


def _cell(study: Study, base: PlannedRun, level: float | None, rate: float | None, batch_size: int | None,
          seed: int | None) -> PlannedRun | None:  # fmt: skip
    """Returns one run; None if the budget leaves it out."""
    name = base.name
    changes: dict[str, Any] = {}
    if batch_size is not None:
        changes["RunConfig.batch_size"] = batch_size
    if seed is not None:
        changes["RunConfig.seed"] = seed
    budget_error = None
    if level is not None and study.budget is not None:
        cost = sequence_cost(base.config, base.config.model)
        batch = batch_size or base.config.batch_size
        wanted = study.budget.sequences(level, cost)
        if not study.budget.keeps(wanted, cost):
            return None
        steps = round(wanted / batch)
        name += f"_{study.budget.name(level)}"
        if steps < 1:
            raise UserError(
                f"{name}: {level:.4g} {study.budget.unit} are {wanted:.2g} sequences, less than a step of {batch}"
            )
        changes["RunConfig.steps"] = steps
        budget_error = study.budget.spent(steps * batch, cost) / level - 1
    name += "".join(
        f"_{mark}{value:g}" for mark, value in (("lr", rate), ("b", batch_size), ("s", seed)) if value is not None
    )
    changes |= _scheduled(study, base.config, changes.get("RunConfig.steps", base.config.steps), rate, name)
    bindings = (*base.bindings, *changes.items())
    config = _changed(base.config, changes)
    try:
        validate(config)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    return dataclasses.replace(
        base, name=name, bindings=bindings, config=config, budget=level, budget_error=budget_error
    )


def _scheduled(study: Study, config: RunConfig, steps: int, rate: float | None, name: str) -> dict[str, object]:
    """Returns what the study changes about the schedule."""
    wanted = {"peak": rate}
    if study.warmup_fraction is not None:
        wanted["warmup_steps"] = round(study.warmup_fraction * steps)
    wanted = {field: value for field, value in wanted.items() if value is not None}
    schedule = config.optimizer.learning_rate
    for field in wanted:
        if not hasattr(schedule, field):
            raise UserError(
                f"{name}: its schedule {type(schedule).__name__} has no field {field!r}, which Study.learning_rates or "
                "Study.warmup_fraction sets: choose another schedule in the study's settings"
            )
    return {f"{type(schedule).__name__}.{field}": value for field, value in wanted.items()}


def _changed(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    """Returns the config under the bindings of a cell: fields of the run and of its schedule."""
    own: dict[str, Any] = {}
    schedule: dict[str, Any] = {}
    for key, value in changes.items():
        owner, field = key.split(".")
        (own if owner == "RunConfig" else schedule)[field] = value
    optimizer: Any = config.optimizer
    rate = dataclasses.replace(optimizer.learning_rate, **schedule)
    return dataclasses.replace(config, **own, optimizer=dataclasses.replace(optimizer, learning_rate=rate))

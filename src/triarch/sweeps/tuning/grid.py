"""From a suite to its runs, and from a run to the commands that make it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

from triarch.data.manifest import FILE_NAME
from triarch.errors import UserError
from triarch.sweeps.stages import Stage, compilation_cache
from triarch.sweeps.tuning.suite import LabelSuite, LabelTask
from triarch.training.config import RunConfig

# Fewer steps cannot be warmed up, let down and evaluated on the way.
_LEAST_STEPS = 10


@dataclasses.dataclass(frozen=True)
class TuningRun:
    """A model tuned on a task.

    Attributes:
      model: what tables call it.
      task: that it is tuned on.
      learning_rate: the peak; None for the recipe's.
      weight_decay: as published; None for the recipe's.
      epochs: over the training rows.
      seed: of the run.
    """

    model: str
    task: LabelTask
    learning_rate: float | None
    weight_decay: float | None
    epochs: int
    seed: int

    @property
    def setting(self) -> tuple[str, ...]:
        """All but the seed, as tables have it: model, task, learning rate, weight decay, epochs."""
        rate, decay = (None if one is None else f"{one:g}" for one in (self.learning_rate, self.weight_decay))
        return self.model, self.task.name, rate or "recipe", decay or "recipe", str(self.epochs)

    @property
    def name(self) -> str:
        """What its folder, the ledger and claims call it."""
        _, _, rate, decay, epochs = self.setting
        given = (f"_{kind}{value}" for kind, value in (("lr", rate), ("wd", decay)) if value != "recipe")
        return f"{self.model}_{self.task.name}{''.join(given)}_{epochs}ep_{self.seed}"


def tuning_runs(suite: LabelSuite, later: bool) -> Iterator[TuningRun]:
    """Yields the runs that begin from the models, or, with `later`, those that begin from other runs."""
    for model, task in itertools.product(suite.named, suite.chosen):
        if (task.begins_from is not None) != later:
            continue
        rates = suite.learning_rates or task.learning_rates or (None,)
        grid = itertools.product(rates, task.weight_decays or (None,), suite.epochs or task.epochs, suite.seeds)
        for rate, decay, epochs, seed in grid:
            yield TuningRun(model, task, rate, decay, epochs, seed)


def store_folder(output: Path, model: str, task: LabelTask) -> Path:
    """Returns where the task's rows lie as the model's tokens."""
    return output / "stores" / f"{model}_{task.name}"


def model_file(output: Path, model: str) -> Path:
    """Returns the gin file of a model's network."""
    return output / "models" / f"{model}.gin"


def result_file(output: Path, run: TuningRun, split: str) -> Path:
    """Returns where the metrics of a run on a split lie."""
    return output / "results" / f"{run.name}.{split}.json"


def gin_files(suite: LabelSuite, output: Path, model: str, task: LabelTask) -> tuple[str, ...]:
    """Returns the gin files of a task's runs, in order."""
    settings = (suite.settings,) if suite.settings else ()
    return task.recipe, str(model_file(output, model)), *settings


def prepare_stage(suite: LabelSuite, output: Path, model: str, task: LabelTask, vocabulary: str) -> Stage:
    """Returns what makes a task's store in a model's vocabulary, which `--vocabulary` names so."""
    data, folder = Path(suite.data), store_folder(output, model, task)
    train, *others = task.files.items()
    arguments = (
        *("prepare", "--task=files", "--layout=labelled", f"--files={data / train[1]}"),
        *(f"--split_files={split}={data / file}" for split, file in others),
        *(f"--text_field={task.text_field}", f"--label_field={task.label_field}"),
        *((f"--pair_field={task.pair_field}",) if task.pair_field else ()),
        *((f"--columns={','.join(task.columns)}",) if task.columns else ()),
        *((f"--label_names={','.join(task.label_names)}",) if task.label_names else ()),
        *(("--regression",) if task.regression else ()),
        *(("--skip_bad_records",) if task.skip_bad_records else ()),
        *(f"--vocabulary={vocabulary}", f"--window={suite.window}", f"--output={folder}"),
    )
    owner = f"{model}_{task.name}"
    return Stage(owner, "prepare", arguments, folder / FILE_NAME, output / "logs" / f"prepare_{owner}.txt")


def num_steps(rows: int, epochs: int, batch_size: int) -> int:
    """Returns the steps of so many epochs over the training rows."""
    return max(rows * epochs // batch_size, _LEAST_STEPS)


def run_stages(
    suite: LabelSuite, run: TuningRun, output: Path, config: RunConfig, rows: int, begins: str
) -> list[Stage]:
    """Returns what is to be done for a run, in order: train, and evaluate each split.

    Args:
      suite: that it belongs to.
      run: of the suite.
      output: folder of the suite.
      config: what the run's gin files make.
      rows: of the task's training split.
      begins: what the run begins from.
    """
    folder, store = output / "runs" / run.name, store_folder(output, run.model, run.task)
    steps = num_steps(rows, run.epochs, config.batch_size)
    warmup, every = int(steps * suite.warmup_fraction), max(1, steps // suite.evaluations)
    bindings: dict[str, object] = {
        "RunConfig.init_from": begins,
        "RunConfig.steps": steps,
        "RunConfig.seed": run.seed,
        "RunConfig.eval_every": every,
        "RunConfig.compilation_cache": str(compilation_cache(output)),
        "DataConfig.store": str(store),
        "DataConfig.window": suite.window,
        "CheckpointConfig.every": every,
        "CheckpointConfig.keep_last": 1,
        "Trapezoid.warmup_steps": warmup,
        "Trapezoid.decay_steps": steps - warmup,
    }
    if run.learning_rate is not None:
        bindings["Trapezoid.peak"] = run.learning_rate
    if run.weight_decay is not None:
        # AdamW's is multiplied by the rate.
        bindings["AdamW.weight_decay"] = run.weight_decay / (
            run.learning_rate or config.optimizer.learning_rate.peak_rate
        )
    train = (
        "train",
        *(f"--gin_file={file}" for file in gin_files(suite, output, run.model, run.task)),
        *(f"--gin.{name}={value!r}" for name, value in bindings.items()),
        f"--workdir={folder}",
    )
    stages = [Stage(run.name, "train", train, folder / "summary.json", folder / "train.log")]
    for split in run.task.splits:
        result = result_file(output, run, split)
        evaluate = (
            "evaluate",
            f"--model={folder}",
            "--step=best",
            f"--classification={store}@{split}",
            f"--json={result}",
        )
        stages.append(Stage(run.name, f"evaluate {split}", evaluate, result, folder / f"evaluate_{split}.log"))
    return stages


def beginning(
    suite: LabelSuite, run: TuningRun, output: Path, scores: Mapping[tuple[str, ...], Mapping[int, float]]
) -> str:
    """Returns what a run begins from: its model, or the first seed of the task's best setting.

    Args:
      suite: that it belongs to.
      run: of the suite.
      output: folder of the suite.
      scores: of the settings of tasks that begin from models, by seed.

    Raises:
      UserError: the task that it begins from has no result.
    """
    first = run.task.begins_from
    if first is None:
        return suite.named[run.model]
    found = {setting: own for setting, own in scores.items() if setting[:2] == (run.model, first) and own}
    if not found:
        raise UserError(f"{run.task.name}: begins from {first}, which has no result yet for {run.model}")
    best = max(found, key=lambda setting: sum(found[setting].values()) / len(found[setting]))
    chosen = next(
        one for one in tuning_runs(suite, False) if one.setting == best and one.seed in found[best]
    )  # fmt: skip
    return str(output / "runs" / chosen.name)

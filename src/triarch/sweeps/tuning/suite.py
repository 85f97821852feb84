"""What a suite of labelled tasks is: which files, recipes and grids, and for which models."""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePath

from triarch.errors import UserError, nearest

# What `triarch evaluate --classification` measures.
METRICS = ("accuracy", "f1", "matthews", "pearson", "spearman")


@dataclasses.dataclass(frozen=True)
class LabelTask:
    """One task: texts with labels in files, and how a model is tuned on it.

    Attributes:
      name: what runs and tables call it.
      recipe: gin file of its runs, below gin_configs or a path.
      train: file of its training rows, below `LabelSuite.data`.
      validation: of the rows that runs are compared on, and checkpoints chosen by.
      others: further splits to evaluate on, each "NAME=FILE".
      text_field: field or column of the text.
      label_field: of the label.
      pair_field: of the second text of a pair; None for none.
      columns: names of the columns of files without a header.
      label_names: the classes, in their order; () for those of the files.
      regression: whether labels are numbers.
      skip_bad_records: leave out rows that cannot be read, and count them.
      learning_rates: peaks to run; () for the recipe's.
      weight_decays: as published, not multiplied by the rate; () for the recipe's.
      epochs: over the training rows.
      metrics: of each split, which make the task's score: their mean.
      begins_from: name of the task whose best run this one's runs begin from; None for the model itself.
    """

    name: str
    recipe: str
    train: str
    validation: str
    others: tuple[str, ...] = ()
    text_field: str = "sentence"
    label_field: str = "label"
    pair_field: str | None = None
    columns: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()
    regression: bool = False
    skip_bad_records: bool = False
    learning_rates: tuple[float, ...] = ()
    weight_decays: tuple[float, ...] = ()
    epochs: tuple[int, ...] = (3,)
    metrics: tuple[str, ...] = ("accuracy",)
    begins_from: str | None = None

    @property
    def files(self) -> dict[str, str]:
        """File by split, "train" first and "validation" second."""
        further = dict(other.split("=", 1) for other in self.others)
        return {"train": self.train, "validation": self.validation, **further}

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits to evaluate on."""
        return tuple(name for name in self.files if name != "train")

    def validate(self) -> None:
        """Raises UserError, naming the field, for a task that cannot be."""
        where = f"LabelTask {self.name!r}"
        if not re.fullmatch(r"[\w.+-]+", self.name):
            raise UserError(f"LabelTask.name = {self.name!r}: expected letters, digits and . _ + -")
        for other in self.others:
            if not re.fullmatch(r"\w+=.+", other) or other.split("=")[0] in ("train", "validation"):
                raise UserError(f"{where}: others = {other!r}: expected NAME=FILE, of another split")
        for metric in self.metrics:
            if metric not in METRICS:
                raise UserError(f"{where}: metrics = {metric!r}{nearest(metric, METRICS)}")
        if not self.metrics or not self.epochs or min(self.epochs) < 1:
            raise UserError(f"{where}: expected at least one of metrics, and epochs from 1 on")
        if any(rate <= 0 for rate in self.learning_rates) or any(decay < 0 for decay in self.weight_decays):
            raise UserError(f"{where}: expected learning_rates above 0 and weight_decays from 0 on")


@dataclasses.dataclass(frozen=True)
class LabelSuite:
    """Models tuned and evaluated on tasks, over seeds and each task's rates, weight decays and epochs.

    Attributes:
      title: heading of the table.
      data: folder of the tasks' files.
      models: runs, exports or imports to tune.
      tasks: to tune them on.
      labels: what tables call the models; () for their folders' names.
      only: names of the tasks to run; () for all.
      seeds: of each setting.
      learning_rates: in place of every task's; () for these.
      epochs: likewise.
      settings: gin file laid over every run; "" for none.
      window: tokens of a text, or of a pair of texts.
      evaluations: of each run, on the validation split.
      warmup_fraction: of a run's steps; the rate falls over the rest.
      parallel: runs at a time on this machine; each gets its share of the cores.
      attempts: times that a run which fails is tried before a sweep gives it up.
    """

    title: str
    data: str
    models: tuple[str, ...]
    tasks: tuple[LabelTask, ...]
    labels: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1618, 42, 6033)
    learning_rates: tuple[float, ...] = ()
    epochs: tuple[int, ...] = ()
    settings: str = ""
    window: int = 256
    evaluations: int = 10
    warmup_fraction: float = 0.1
    parallel: int = 1
    attempts: int = 2

    @property
    def chosen(self) -> tuple[LabelTask, ...]:
        """The tasks to run."""
        return tuple(task for task in self.tasks if not self.only or task.name in self.only)

    @property
    def named(self) -> dict[str, str]:
        """Model by what tables call it."""
        labels = self.labels or tuple(PurePath(model).name for model in self.models)
        return dict(zip(labels, self.models, strict=True))

    def validate(self) -> None:
        """Raises UserError, naming the field, for a suite that cannot be run."""
        for field in ("models", "tasks", "seeds"):
            if not getattr(self, field):
                raise UserError(f"LabelSuite.{field} is empty")
        names = [task.name for task in self.tasks]
        for field, values in (("tasks", names), ("seeds", self.seeds), ("models", self.models)):
            if len(set(values)) < len(values):
                raise UserError(f"LabelSuite.{field} = {tuple(values)!r} names something twice")
        if self.labels and len(self.labels) != len(self.models):
            raise UserError(f"LabelSuite.labels has {len(self.labels)} names for {len(self.models)} models")
        labels = self.labels or tuple(PurePath(model).name for model in self.models)
        if len(set(labels)) < len(labels) or not all(re.fullmatch(r"[\w.+-]+", label) for label in labels):
            raise UserError(
                f"LabelSuite.labels = {labels!r}: expected a name of its own for each model, without spaces"
            )
        for name in self.only:
            if name not in names:
                raise UserError(f"LabelSuite.only = {name!r}: no such task{nearest(name, names)}")
        for task in self.tasks:
            task.validate()
        chosen = {task.name: task for task in self.chosen}
        for task in self.chosen:
            first = task.begins_from
            if first is not None and (first not in chosen or chosen[first].begins_from is not None):
                raise UserError(
                    f"LabelTask {task.name!r}: begins_from = {first!r}: expected a task that is run, too, and begins "
                    f"from the model itself{nearest(first, chosen)}"
                )
        for field in ("window", "evaluations", "parallel", "attempts"):
            if getattr(self, field) < 1:
                raise UserError(f"LabelSuite.{field} = {getattr(self, field)!r}: expected a whole number from 1 on")
        if not 0 <= self.warmup_fraction < 1:
            raise UserError(f"LabelSuite.warmup_fraction = {self.warmup_fraction!r}: expected 0 up to but not 1")

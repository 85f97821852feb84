"""What Python programs call: the verbs of the command line as functions; `triarch` gives them by name."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.errors import UserError

if TYPE_CHECKING:
    import matplotlib.figure
    import numpy as np

    from triarch.planning import Plan
    from triarch.planning.programs import Kind
    from triarch.scaling.laws.law import AnyFit, Law
    from triarch.scaling.requests.outcome import Outcome
    from triarch.text_model import Model
    from triarch.training import RunConfig

_PathLike = str | os.PathLike[str]


def generate(model: Model | _PathLike, prompts: str | Sequence[str], **settings: Any) -> Any:
    """Returns what a model writes after each prompt: a text, or a list of texts; see `Model.generate`.

    Args:
      model: what `triarch.load` gave, or a folder to load.
      prompts: a text, or a list of texts.
      settings: max_new_tokens, temperature, top_p, num_beams, stop, ...

    Raises:
      UserError: the folder holds no model, or a setting is unknown or out of range.
    """
    return _loaded(model).generate(prompts, **settings)


def score(model: Model | _PathLike, texts: Any, **options: Any) -> Any:
    """Returns the log-likelihood of texts, or of (context, continuation) pairs; see `Model.score`.

    Args:
      model: what `triarch.load` gave, or a folder to load.
      texts: a text, a pair, or a list of them.
      options: max_length, pseudo, batch_size.

    Raises:
      UserError: the folder holds no model, or a text is empty.
    """
    return _loaded(model).score(texts, **options)


def embed(model: Model | _PathLike, texts: str | Sequence[str], **options: Any) -> np.ndarray:
    """Returns float32 vectors [texts, d_model], or [d_model] for one text; see `Model.embed`.

    Args:
      model: what `triarch.load` gave, or a folder to load.
      texts: a text, or a list of texts.
      options: pooling, normalize, prompt, prompt_name, max_length, batch_size.

    Raises:
      UserError: the folder holds no model, a text is empty, or there is no such pooling or prompt.
    """
    return _loaded(model).embed(texts, **options)


def _loaded(model: Model | _PathLike) -> Model:
    if isinstance(model, str | os.PathLike):
        from triarch.loading import load_text_model

        return load_text_model(model)
    return model


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What `fit` returns.

    Attributes:
      outcome: the fits with their checks and comparisons.
    """

    outcome: Outcome

    @property
    def result(self) -> dict[str, Any]:
        """Everything as plain values: what `triarch fit --json` writes."""
        return self.outcome.result

    @property
    def fits(self) -> dict[str, AnyFit]:
        """The fits by label: the group, the column of x, or both; "" where there is only one."""
        return {part.label: part.fit for part in self.outcome.parts}

    def summary(self) -> str:
        """Returns the formula, intervals, checks and warnings as text."""
        from triarch.scaling.requests.text import describe

        return describe(self.outcome)

    def figure(self) -> matplotlib.figure.Figure:
        """Returns a drawing of data and law, or of the groups compared."""
        from triarch.scaling.requests.output import main_panel

        return main_panel(self.outcome).figure

    def write(self, folder: _PathLike) -> list[str]:
        """Writes what `triarch fit --output` writes; returns the names of the files.

        Raises:
          UserError: the folder cannot be written.
        """
        from triarch.scaling.requests.output import write_folder

        return write_folder(self.outcome, Path(folder))


def fit(
    table: Any,
    law: str | Law,
    columns: Mapping[str, str],
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Fitted:
    """Fits a scaling law to a table, with intervals and checks.

    Args:
      table: a pandas or polars DataFrame, a mapping of columns, a sequence of rows (mappings), or the path of a file
        that `triarch fit` reads.
      law: its name: "chinchilla", "power", "isoflop", ...; `triarch fit --help` lists them. Or a law with its settings.
      columns: the column of each role that the law has: {"params": "N", "tokens": "D", "loss": "loss"}.
      settings: of a law given by name: {"formula": "E + A / N^alpha"}.
      options: group, pair and run (columns); units ({"params": 1e6}), loss_in ("nats", "bits" or "perplexity"),
        skip_empty, held_out, compare_laws, budgets; fixed, bootstraps, confidence and seed: as the flags of
        `triarch fit` say.

    Raises:
      UserError: an unknown law, setting, option or column, a cell that is not what its column needs, or too few rows.

    Examples:
      >>> table = {"N": [1e6, 2e6, 4e6, 8e6, 16e6], "loss": [3.8, 3.5, 3.26, 3.06, 2.9]}
      >>> fitted = fit(table, "power", {"x": "N", "loss": "loss"}, bootstraps=0, held_out=0.0)
      >>> 0.0 < fitted.result["parameters"]["alpha"] < 1.0
      True
    """
    from triarch.scaling.requests.data import fit_data

    return Fitted(fit_data(table, law, columns, settings, **options))


def run_config(*files: _PathLike, bindings: Mapping[str, Any] | None = None) -> RunConfig:
    """Returns the run that gin files describe, as `triarch train --gin_file=...` reads them.

    Args:
      files: paths, or names under gin_configs/; later ones override earlier ones. A model file alone is completed with
        its family's recipe.
      bindings: laid over them: {"RunConfig.steps": 100, "RunConfig.objective": "@PrefixLM()"}; a text that begins with
        "@" refers to a class, as in gin.

    Raises:
      UserError: a file or a name in it does not exist, or a value does not fit.
    """
    from triarch.cli.gin import files as gin_files

    given = [f"{name}={_gin_text(value)}" for name, value in (bindings or {}).items()]
    config, _ = gin_files.load_run(argparse.Namespace(gin_file=[str(file) for file in files], gin_bindings=given))
    return config


def _gin_text(value: Any) -> str:
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    return value if isinstance(value, str) and value.startswith(("@", "%")) else repr(value)


def train(config: RunConfig, workdir: _PathLike, *, modules: Sequence[str] = ()) -> dict[str, Any]:
    """Trains a run, or resumes the one in `workdir`; returns its summary.

    Args:
      config: from `run_config`, or put together from the config classes.
      workdir: the run folder; `triarch.load` opens it afterwards.
      modules: that register the SeqIO tasks of `RunConfig.eval_tasks`.

    Raises:
      UserError: the config, store or folder is not in order, or the loss became infinite or NaN.
    """
    from triarch.cli.gin import files as gin_files
    from triarch.cli.seqio.training_tasks import task_evaluator
    from triarch.training import train as run

    return run(config, workdir, gin_files.render(config), task_evaluator=task_evaluator(config, modules))


def plan(config: RunConfig, topology: str, *, slices: int = 1, program: Kind = "train", full: bool = False) -> Plan:
    """Returns whether a run fits a TPU slice and what a step would cost there, by the TPU compiler.

    Args:
      config: from `run_config`.
      topology: the slice: "v5p:4x4x4" or "v5p-128".
      slices: how many of them.
      program: "train" or "evaluate"; the programs of generation are planned by `triarch plan`.
      full: whether to compile to the end, as a run does.

    Raises:
      UserError: the slice, config, mesh or batch is not in order, or libtpu is missing.
    """
    from triarch.planning import make_plan, make_quick_plan, parse

    make = make_plan if full else make_quick_plan
    return make(config, parse(topology, slices), program)


def make_store(
    texts: Sequence[str],
    folder: _PathLike,
    *,
    window: int,
    vocabulary: str = "bytes",
    vocabulary_size: int = 32768,
    validation_fraction: float = 0.1,
    overwrite: bool = False,
) -> Path:
    """Writes texts as a token store, which runs train on; returns its folder. Needs the extra `tasks`.

    Args:
      texts: documents.
      folder: of the store.
      window: tokens of an example.
      vocabulary: "bytes", "sentencepiece" (trained on the texts), or the path of a tokenizer.
      vocabulary_size: of a trained one.
      validation_fraction: of documents that go to the validation split.
      overwrite: whether to take the place of a store that is there.

    Raises:
      UserError: the texts are too few, the vocabulary cannot be used, or the folder cannot be written.
    """
    from triarch.prepare.corpora.texts import Texts
    from triarch.prepare.pipeline import VocabularyChoice, prepare

    if isinstance(texts, str):
        raise UserError("make_store: expected a sequence of texts, not one text")
    choice = VocabularyChoice(vocabulary, vocabulary_size)
    store = prepare(
        Texts(tuple(texts)), "texts", Path(folder), choice, window, validation_fraction, workers=1, overwrite=overwrite
    )
    return store.path

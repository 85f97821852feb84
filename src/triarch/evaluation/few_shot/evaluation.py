"""Tasks put to a model, one after the other, with results as they come."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from triarch.decoding import Conventions
from triarch.decoding.prompts import num_places
from triarch.decoding.scoring import PSEUDO, Pseudo
from triarch.errors import UserError, nearest
from triarch.evaluation.checksums import parameter_checksums
from triarch.evaluation.few_shot.reading import Frame, Reader
from triarch.evaluation.few_shot.suites import TaskSuite
from triarch.fields import Count, Limits, Size, check_options
from triarch.interchange import LoadedModel
from triarch.objectives import SpecialTokens
from triarch.progress import Progress
from triarch.tokenizers import Tokenizer

# What the harness takes for a model that does not say, and where those of Hugging Face do.
_MAX_LENGTH = 2048
_LENGTH_FIELDS = ("n_positions", "max_position_embeddings", "n_ctx")
# The harness's own 100,000 takes minutes; the standard error of a standard error of 1,000 draws is 2%.
_BOOTSTRAPS = 1000


@dataclasses.dataclass(frozen=True)
class FewShotOptions:
    """How tasks are put to a model.

    Attributes:
      task_data: folder of local data files; see `tasks.TaskFinder`.
      include_paths: folders of further task definitions.
      num_fewshot: examples in the prompt, for all tasks; None: as the suite or the task has it.
      limit: how many examples of every task, the first ones; None for all.
      max_length: tokens that one side of a model reads at most; None: as many as it has positions for, as an imported
        model's config.json says, or 2048.
      add_bos: whether a decoder-only model, or an encoder, reads the token that begins texts; None: as it was trained,
        or as its tokenizer does.
      pseudo: what an encoder finds masked; see `triarch.decoding.scoring.score`.
      instruction: put before every prompt, ended by a line; None for the tasks' own prompts alone.
      batch_size: rows computed at once.
      answers: file in which answers are kept, so that a killed evaluation resumes; None: in memory only.
    """

    task_data: Path | None = None
    include_paths: tuple[Path, ...] = ()
    num_fewshot: Count | None = None
    limit: Size | None = None
    max_length: Annotated[int, Limits(least=2)] | None = None
    add_bos: bool | None = None
    pseudo: Pseudo = "token"
    instruction: str | None = None
    batch_size: Size = 32
    answers: Path | None = None

    def check(self) -> None:
        """Raises UserError, naming the flag, for a value out of range."""
        check_options(self)
        if self.pseudo not in PSEUDO:
            raise UserError(f"--pseudo={self.pseudo}{nearest(self.pseudo, PSEUDO)}")


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """One metric of one task.

    Attributes:
      task: name of the task, or of a group whose tasks are averaged.
      metric: name of the metric.
      filter: how answers were cut out of generated text; "none" where they were not.
      value: of the metric.
      standard_error: of the value over examples; None where it is unknown.
      higher_is_better: None if it is unknown.
      num_fewshot: examples in the prompt; None of a group whose tasks differ.
      num_examples: examples asked; None of a group.
      version: of the task's definition.
      files: sha256 by name of the local files it reads.
    """

    task: str
    metric: str
    filter: str
    value: float
    standard_error: float | None
    higher_is_better: bool | None
    num_fewshot: int | None
    num_examples: int | None
    version: str
    files: Mapping[str, str]


def evaluate_tasks(
    model: LoadedModel,
    tokenizer: Tokenizer,
    suite: TaskSuite,
    options: FewShotOptions,
    *,
    tokenizer_frame: tuple[Sequence[int], Sequence[int]] | None = None,
    show_progress: bool = False,
    label: str = "",
    report: Callable[[list[TaskResult]], None] = lambda results: None,
    asked_about: Callable[[str, list[str]], None] = lambda task, prompts: None,
) -> list[TaskResult]:
    """Puts tasks to a model.

    Args:
      model: of any architecture, its vocabulary known.
      tokenizer: of that vocabulary.
      suite: tasks.
      options: how.
      tokenizer_frame: what the model's tokenizer puts before and after a text; None if it does not say.
      show_progress: draw a bar with the time left on stderr, where that is a terminal.
      label: what the bar calls the model.
      report: called with the results of each task of the suite as soon as they are known.
      asked_about: called with each task's name and the prompts of its examples, without others before them.

    Raises:
      UserError: lm_eval is not installed; there is no such task, or its data are missing or lack fields; a task asks
        what the model cannot do; an option is out of range; the answers kept are another model's.
    """
    options.check()
    _quieten()
    try:
        from lm_eval.evaluator import evaluate
    except ImportError as error:
        raise UserError(f"tasks need the package {error.name}: install triarch[eval]") from None
    for name in ("lm_eval", "datasets", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from triarch.evaluation.few_shot.answers import Answers
    from triarch.evaluation.few_shot.harness_model import HarnessModel
    from triarch.evaluation.few_shot.tasks import TaskFinder

    reader, max_length = _reader(model, tokenizer, tokenizer_frame, options), max_length_of(model, options.max_length)
    finder = TaskFinder(options.include_paths, options.task_data)
    results = []
    with Progress(show_progress) as progress, Answers(options.answers, _identity(model, reader, options)) as answers:
        asked = HarnessModel(
            model,
            reader,
            answers,
            max_length=max_length,
            batch_size=options.batch_size,
            bidirectional=_bidirectional(model),
            pseudo=options.pseudo,
            progress=progress,
            label=label,
        )
        for name, shots in suite.tasks.items():
            found = finder.find(name, shots if options.num_fewshot is None else options.num_fewshot)
            for task in found.loaded["tasks"].values():
                asked_about(task.task_name, _prompts(task, options.limit))
            with contextlib.redirect_stdout(sys.stderr), _finite(name):  # The harness prints.
                output = evaluate(
                    asked,
                    found.loaded,
                    limit=options.limit,
                    bootstrap_iters=_BOOTSTRAPS,
                    log_samples=False,
                    system_instruction=options.instruction and f"{options.instruction}\n",
                )
            rows = list(_rows(output, found.files))
            report(rows)
            results += rows
    return results


def _prompts(task: Any, limit: int | None) -> list[str]:
    """Returns what a task asks of each example, as text; nothing of those whose question is another for each choice."""
    prompts = (task.doc_to_text(document) for document in itertools.islice(task.eval_docs, limit))
    return [prompt for prompt in prompts if isinstance(prompt, str)]


@contextlib.contextmanager
def _finite(task: str) -> Iterator[None]:
    try:
        yield
    except OverflowError as error:  # The harness's perplexity, of more than 709 nats.
        raise UserError(f"task {task}: the model's perplexity is beyond 1e308: leave the task out") from error


def harness_version() -> str:
    """Returns the version of lm_eval."""
    return importlib.metadata.version("lm_eval")


def _quieten() -> None:
    """Keeps the harness from forking this process, which threads do not survive, and from bars of its own."""
    os.environ.setdefault("DISABLE_MULTIPROC", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def _reader(
    model: LoadedModel,
    tokenizer: Tokenizer,
    tokenizer_frame: tuple[Sequence[int], Sequence[int]] | None,
    options: FewShotOptions,
) -> Reader:
    frame = Frame.of(model, tokenizer_frame)
    if options.add_bos is not None:
        if model.config.architecture == "encoder-decoder":
            raise UserError("--add_bos is for models with one side: a decoder beside an encoder always has its start")
        frame = frame.with_bos(options.add_bos, SpecialTokens.from_manifest(model.known_vocabulary["special"]).bos)
    return Reader(tokenizer, frame, model.config.architecture)


def max_length_of(model: LoadedModel, asked: int | None) -> int:
    """Returns how many tokens one side of a model reads at most: as many as `asked`, where that is something.

    Raises:
      UserError: the model has fewer positions.
    """
    places = num_places(model.config)
    if asked is not None:
        if places is not None and asked > places:
            raise UserError(f"--max_length={asked}: the model has positions for {places} tokens")
        return asked
    fields = (model.origin.source or {}).get("config", {})
    return places or next((fields[name] for name in _LENGTH_FIELDS if name in fields), _MAX_LENGTH)


def _bidirectional(model: LoadedModel) -> bool:
    return Conventions.of(model).bidirectional_prompt


def _identity(model: LoadedModel, reader: Reader, options: FewShotOptions) -> dict[str, Any]:
    """Returns what answers depend on besides their requests."""
    return {
        "parameters": parameter_checksums(model),
        "network": repr(model.config),
        "vocabulary": model.known_vocabulary["fingerprint"],
        "reading": {
            "frame": dataclasses.asdict(reader.frame),
            "max_length": max_length_of(model, options.max_length),
            "pseudo": options.pseudo if model.config.architecture == "encoder-only" else None,
            "bidirectional": _bidirectional(model),
        },
    }


def _rows(output: Mapping[str, Any], files: Mapping[str, str]) -> Iterator[TaskResult]:
    for task, metrics in output["results"].items():
        for key, value in metrics.items():
            metric, _, cut = key.partition(",")
            if not cut or metric.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            error = metrics.get(f"{metric}_stderr,{cut}")
            counts = output["n-samples"].get(task)
            yield TaskResult(
                task=task,
                metric=metric,
                filter=cut,
                value=float(value),
                standard_error=float(error) if isinstance(error, (int, float)) else None,
                higher_is_better=output["higher_is_better"].get(task, {}).get(metric),
                num_fewshot=output["n-shot"].get(task),
                num_examples=counts["effective"] if counts else None,
                version=str(output["versions"].get(task)),
                files=files,
            )

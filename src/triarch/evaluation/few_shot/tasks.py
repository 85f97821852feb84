"""Finding tasks: the project's own that read local files, the user's, and those of lm-evaluation-harness."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import jinja2
import yaml
from lm_eval.tasks import TaskManager

from triarch.errors import UserError, nearest
from triarch.evaluation.few_shot.names import OWN_TASKS
from triarch.files import sha256

_FIELDS = "fields"


@dataclasses.dataclass(frozen=True)
class Found:
    """A name's tasks, ready to be asked.

    Attributes:
      name: of a task, or of a group or tag of several.
      loaded: `tasks` and `groups` as the harness takes them.
      files: sha256 by name of the local files it reads, where it does.
    """

    name: str
    loaded: Mapping[str, Any]
    files: Mapping[str, str]


class TaskFinder:
    """Finds tasks by name: the user's first, then the project's own where there is local data, then the harness's."""

    def __init__(self, include_paths: Sequence[Path] = (), task_data: Path | None = None):
        """Reads the definitions of the user's tasks and the project's own.

        Args:
          include_paths: folders of YAML files.
          task_data: folder in which relative names of data files are looked up; without it the project's own tasks,
            whose data are local, are not there.
        """
        self._data = task_data
        self._local = _local_configs([] if task_data is None else [OWN_TASKS])
        self._local |= _local_configs(include_paths)
        self._managers = [TaskManager(include_path=list(map(str, include_paths)), include_defaults=False)]

    def find(self, name: str, shots: int | None) -> Found:
        """Loads a task, group or tag, and its data.

        Args:
          name: of it; the path of a YAML file will do.
          shots: examples in the prompt, None for the task's own number.

        Raises:
          UserError: there is no such task, its data are missing, lack fields or cannot be fetched, or it runs code
            that a model has written.
        """
        with _errors_of(name):
            spec, files = self._spec(name)
            loaded = self._manager_of(name).load([spec])
        for task in loaded["tasks"].values():
            _prepare(task, shots)
        return Found(name, loaded, files)

    def _spec(self, name: str) -> tuple[Any, dict[str, str]]:
        if name not in self._local:
            return name, {}
        config = dict(self._local[name])
        options = dict(config["dataset_kwargs"])
        paths = {split: self._file(name, str(pattern)) for split, pattern in options["data_files"].items()}
        options["data_files"] = {split: str(path) for split, path in paths.items()}
        config["dataset_kwargs"] = options
        _check_fields(name, paths, config.get("metadata", {}).get(_FIELDS, ()))
        return config, {path.name: sha256(path) for path in paths.values()}

    def _file(self, name: str, pattern: str) -> Path:
        folder = Path() if self._data is None else self._data
        found = sorted(folder.glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]
        found = [path for path in found if path.is_file()]
        if len(found) != 1:
            there = f"there are {', '.join(map(str, found))}" if found else "there is none"
            raise UserError(f"task {name} reads one file {pattern} in {folder}: {there}")
        return found[0]

    def _manager_of(self, name: str) -> TaskManager:
        if name in self._local or name in self._managers[0].all_tasks or Path(name).is_file():
            return self._managers[0]
        if len(self._managers) == 1:
            self._managers.append(TaskManager())  # It reads thousands of files.
        if name not in self._managers[1].all_tasks:
            raise UserError(f"no task {name!r}{nearest(name, self._managers[1].all_tasks)}")
        return self._managers[1]


def _local_configs(folders: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Returns definitions of tasks that are plain YAML and read JSON files, by name."""
    configs = {}
    for path in (path for folder in folders for path in sorted(folder.glob("**/*.yaml"))):
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError, RecursionError):
            continue  # The harness's own tags, or no YAML: it reads this file itself.
        options = config.get("dataset_kwargs") if isinstance(config, dict) and "include" not in config else None
        if isinstance(options, dict) and isinstance(options.get("data_files"), dict) and isinstance(
            config.get("task"), str
        ):  # fmt: skip
            configs[config["task"]] = config
    return configs


def _check_fields(name: str, paths: Mapping[str, Path], fields: Sequence[str]) -> None:
    """Raises UserError, naming file and row, for a row in which a field is missing that the task's prompts need."""
    for path in paths.values():
        rows = datasets.load_dataset("json", data_files=str(path), split="train")
        for field in fields:
            values = rows[field] if field in rows.column_names else [None] * len(rows)
            row = next((number for number, value in enumerate(values, 1) if _is_empty(value)), None)
            if row is not None:
                has = ", ".join(rows.column_names)
                raise UserError(
                    f"{path}: row {row} has no {field!r} or an empty one, and task {name} needs it (the file has {has})"
                )


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", []) or (isinstance(value, list) and any(map(_is_empty, value)))


def _prepare(task: Any, shots: int | None) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise UserError(f"task {task.task_name} runs code that the model has written, which is not done here")
    if getattr(task, "MULTIMODAL", False):
        raise UserError(f"task {task.task_name} shows images or plays sounds; models here read text")
    own = task.get_config("num_fewshot")
    # The harness's rule: 0 in a definition means that its prompts leave no place for examples, or hold them already.
    if own is None or (shots is not None and own != 0):
        task.set_config(key="num_fewshot", value=shots or 0)
    needed = task.get_config("num_fewshot")
    available = len(task.sampler.df) if needed and hasattr(task, "sampler") else needed
    if needed and needed >= available:
        raise UserError(f"task {task.task_name}: {needed} shots asked for, and it has {available} examples in all")
    task.set_fewshot_seed(seed=1234)


class _errors_of:
    """Says in one line what went wrong with a task's definition or data."""

    def __init__(self, name: str):
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        if error is None or isinstance(error, (UserError, KeyboardInterrupt)):
            return
        chain = list(_causes(error))
        if any(isinstance(one, jinja2.UndefinedError) for one in chain):
            raise UserError(f"task {self._name}: its data lack a field: {error}") from error
        if any(isinstance(one, (ConnectionError, datasets.exceptions.DatasetNotFoundError)) for one in chain) or any(
            "Hub" in str(one) or "offline" in str(one).lower() for one in chain
        ):
            raise UserError(
                f"task {self._name} fetches its data from the Hugging Face Hub, which failed "
                f"({type(error).__name__}); tasks that read local files need no network (--task_data, --include_path)"
            ) from error
        if isinstance(error, Exception):
            reason = next((str(one) for one in reversed(chain) if str(one)), type(error).__name__)
            raise UserError(f"task {self._name}: {reason.splitlines()[0]}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

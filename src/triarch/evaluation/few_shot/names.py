"""Which tasks there are by name, told without importing the harness or parsing its thousands of definitions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from triarch.errors import UserError, nearest

OWN_TASKS = Path(__file__).parent / "tasks"
# What names a task, a group or a tag, or lists tags, and the names in it.
_NAMING = re.compile(r"^[\"']?(?:task|group|tag)[\"']?:[ \t]*(.*(?:\n[ \t]*-[ \t]+.*)*)", re.MULTILINE)
_LARGEST = 2**20  # Of a definition, in bytes; larger files are data.
_NAME = re.compile(r"[^\s,\[\]'\"#-][^\s,\[\]'\"#]*")


def check_names(names: Iterable[str], include_paths: Sequence[Path], task_data: Path | None) -> None:
    """Raises UserError for a task, group or tag that nobody has, or a folder that does not exist.

    Args:
      names: of tasks; the path of a YAML file will do.
      include_paths: folders of the user's tasks.
      task_data: folder of local data files; without it the project's own tasks are not there.
    """
    for folder in (*include_paths, *([] if task_data is None else [task_data])):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
    known = {name for folder in [*include_paths, *([OWN_TASKS] if task_data else [])] for name in names_in(folder)}
    unknown = [name for name in names if name not in known and not Path(name).is_file()]
    if not unknown:
        return
    package = find_spec("lm_eval")
    if package is None or package.origin is None:
        raise UserError("tasks need the package lm_eval: install triarch[eval]")
    known |= set(names_in(Path(package.origin).parent / "tasks"))
    for name in unknown:
        if name not in known:
            raise UserError(f"no task {name!r}{nearest(name, known)}")


def names_in(folder: Path) -> Iterator[str]:
    """Yields what definitions in a folder, and files to be included by them, call tasks, groups and tags."""
    for path in folder.rglob("*"):
        # What is included, and may name tags, need not end in .yaml.
        if ("yaml" in path.name or not path.suffix) and path.is_file() and path.stat().st_size < _LARGEST:
            for names in _NAMING.findall(path.read_text(encoding="utf-8", errors="replace")):
                yield from _NAME.findall(names)

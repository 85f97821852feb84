"""Tables of several models: what they are called, what is said of each, and the CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.interchange import LoadedModel


def model_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Returns models by what tables call them: the names of their folders.

    Raises:
      UserError: two would be called the same.
    """
    names: dict[str, Path] = {}
    for path in paths:
        name = path.absolute().name
        if name in names:
            raise UserError(f"--model={path}: {names[name]} would go by the same name in the table, {name!r}")
        names[name] = path
    return names


def model_facts(name: str, model: LoadedModel) -> dict[str, Any]:
    """Returns what tables say of a model."""
    config = model.config
    return {
        "model": name,
        "architecture": config.architecture,
        "step": model.origin.step,
        "num_params": config.num_params(),
    }


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows, which have the same keys, as CSV; what is None is empty.

    Raises:
      UserError: the folder cannot be made or written.
    """
    from triarch.scaling.style import csv_text, write_output

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be made: {error.strerror}") from None
    cells = [["" if value is None else value for value in row.values()] for row in rows]
    write_output(path, csv_text(list(rows[0]), cells).encode())

"""Tables of several models: what they are called, what is said of each, and the CSV."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli import steps
from triarch.cli.outputs import check_folder
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.data.store import TokenStore
    from triarch.interchange import LoadedModel
    from triarch.scaling.figures.style import Panel


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


def add_model_arguments(parser: argparse.ArgumentParser, output: str) -> None:
    """Adds the flags of verbs that compare models on one store: --model, --store, --output, --split, --step.

    Args:
      parser: of the verb.
      output: what --output is for.
    """
    add = parser.add_argument
    add("--model", required=True, action="append", type=Path, metavar="PATH", help="a run or an export; repeatable")
    add("--store", required=True, type=Path, metavar="STORE", help="of tokens")
    add("--output", required=True, type=Path, metavar="FOLDER", help=output)
    add("--split", default="validation", help="of the store (default: %(default)s)")
    add("--step", type=steps.one_step, metavar="STEP", help=steps.HELP)


def open_models(args: argparse.Namespace) -> tuple[TokenStore, Iterator[tuple[str, LoadedModel]]]:
    """Returns the store of these flags, and yields the models one after the other, by what tables call them.

    Raises:
      UserError: the store or a model is missing or damaged, two models go by one name, or the output cannot be made.
    """
    names = model_names(args.model)
    check_folder("output", args.output)
    from triarch.data.store import TokenStore
    from triarch.interchange import Placement
    from triarch.loading import checkpoint_steps, load

    for path in names.values():
        checkpoint_steps(path, step=args.step)  # What is missing is told before anything is computed.
    models = ((name, load(path, step=args.step, placement=Placement.one_device())) for name, path in names.items())
    return TokenStore.open(args.store), models


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
    from triarch.scaling.figures.style import csv_text, write_output

    make_folder(path.parent)
    cells = [["" if value is None else value for value in row.values()] for row in rows]
    write_output(path, csv_text(list(rows[0]), cells).encode())


def save_panels(panels: Sequence[Panel], folder: Path) -> None:
    """Writes figures as .svg, .pdf and .png; the tables behind them are there already."""
    for panel in panels:
        for suffix in (".svg", ".pdf", ".png"):
            panel.save(folder / (panel.name + suffix))


def make_folder(folder: Path) -> None:
    """Makes the folder of an output, so that what cannot be written is known before it is computed.

    Raises:
      UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from None


def numbers_of(name: str, text: str | None) -> list[int] | None:
    """Returns the numbers of a flag such as 1,512,1024; None if it was not given.

    Raises:
      UserError: something else stands there.
    """
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UserError(f"--{name}={text}: expected whole numbers between commas, as 1,512,1024")
    return [int(part) for part in parts]

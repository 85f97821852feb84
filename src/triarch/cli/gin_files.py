"""gin at the edge: files and bindings in, frozen dataclasses out, and back to text.

gin builds values of the config classes and nothing else; no code below the command line knows of it.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gin
from gin import config as gin_config

from triarch.cli.config_types import check_types
from triarch.errors import UserError, nearest

_PACKAGED = Path(__file__).parents[1] / "gin_configs"
_CHECKOUT = Path(__file__).parents[3] / "gin_configs"


def config_folder() -> Path:
    """Returns where triarch's own gin files lie: in the checkout, or in the installed package."""
    return _CHECKOUT if _CHECKOUT.is_dir() else _PACKAGED


def add_gin_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds T5X's flags: `--gin_file=F` (repeatable); `--gin.NAME=VALUE` is taken by `main`."""
    parser.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="a gin file: a path, or a name under gin_configs/; later files override earlier ones (repeatable)",
    )
    parser.add_argument(
        "--gin.NAME", dest="_gin", metavar="VALUE", help="set one value, e.g. --gin.RunConfig.steps=100 (repeatable)"
    )


def configurables() -> dict[str, type]:
    """Returns every config class by its name in gin."""
    from triarch.data.mixture import MixturePhase, StoreMixture
    from triarch.evaluation.few_shot.suites import TaskSuite
    from triarch.models import Execution, ModelConfig, RopeScaling
    from triarch.objectives import OBJECTIVES
    from triarch.sharding import ActivationRules, AxisRules, MeshConfig, ParameterRules
    from triarch.sweeps.budgets import FixedTokens, IsoFlop, TokensPerParameter
    from triarch.sweeps.shapes import Ladder
    from triarch.sweeps.sizes import Size
    from triarch.sweeps.study import Corpus, Study
    from triarch.training import config, optimizers, schedules
    from triarch.training.adafactor import Adafactor
    from triarch.training.stable_adamw import StableAdamW

    classes = [
        *(config.RunConfig, config.DataConfig, config.CheckpointConfig, StoreMixture, MixturePhase),
        *(ModelConfig, RopeScaling, Execution, MeshConfig, AxisRules, ParameterRules, ActivationRules),
        *OBJECTIVES.values(),
        *(optimizers.AdamW, StableAdamW, Adafactor),
        *(Study, Corpus, Size, Ladder, IsoFlop, TokensPerParameter, FixedTokens, TaskSuite),
        *(schedules.Constant, schedules.Cosine, schedules.Trapezoid, schedules.OneMinusSqrt, schedules.Rsqrt),
    ]
    return {cls.__name__: cls for cls in classes}


def parse(files: Sequence[str], bindings: Sequence[str]) -> None:
    """Reads gin files and bindings into gin's registry, in order, in place of what was there.

    Raises:
      UserError: a file is missing or unreadable, or a line names something that does not exist or is no gin.
    """
    _register()
    gin.clear_config()
    for file in files:
        find(file)
    try:
        gin.parse_config_files_and_bindings(list(files), [_quoted(binding) for binding in bindings])
    except UserError:
        raise
    except Exception as error:  # gin raises ValueError, SyntaxError, TypeError, OSError alike
        raise UserError(_explain(error)) from error


@functools.cache
def _register() -> None:
    for name, cls in configurables().items():
        gin.external_configurable(cls, name=name, module="triarch")
    gin_config._LOCATION_PREFIXES[:] = ["", str(config_folder()) + os.sep]
    # Plain files only: gin's other reader imports packages to look for files in them.
    gin_config._FILE_READERS[:] = [(open, os.path.isfile)]


def find(file: str) -> Path:
    """Returns the path of a gin file given as a path or as a name under gin_configs/.

    Raises:
      UserError: there is none.
    """
    for path in (Path(file), config_folder() / file):
        if path.is_file():
            return path
    raise UserError(f"no gin file {file}{nearest(file, _known_files())}")


def _known_files() -> list[str]:
    root = config_folder()
    return [str(path.relative_to(root)) for path in root.rglob("*.gin")]


def recipe_file(family: str, size: str) -> str:
    """Returns the gin file of the published recipe for a size of a family, or for the whole family."""
    of_size = f"runs/{family}/{size}.gin"
    return of_size if (config_folder() / of_size).is_file() else f"runs/{family}.gin"


def build(name: str) -> Any:
    """Returns the value of the config class `name` that the parsed gin describes.

    Raises:
      UserError: a required field was set nowhere, or a value does not fit.
    """
    try:
        value = gin.get_configurable(name)()
    except Exception as error:
        raise UserError(_explain(error)) from error
    check_types(value)
    return value


def build_field(name: str) -> Any | None:
    """Returns the value that the parsed gin binds to a field, such as "RunConfig.objective"; None if it binds none.

    Raises:
      UserError: a required field within it was set nowhere, or a value does not fit.
    """
    try:
        bound = gin.query_parameter(name)
    except ValueError:
        return None
    try:
        value = copy.deepcopy(bound)  # gin's references build what they refer to when they are copied.
    except Exception as error:
        raise UserError(_explain(error)) from error
    if dataclasses.is_dataclass(value):
        check_types(value)
    return value


def load_run(args: argparse.Namespace) -> tuple[Any, str]:
    """Returns (RunConfig, its resolved gin text) for a verb's `--gin_file` and `--gin.NAME` flags."""
    if not args.gin_file:
        raise UserError("--gin_file is required, for example --gin_file=models/redllm/150m.gin")
    parse(args.gin_file, args.gin_bindings)
    if not _is_bound("RunConfig.model"):
        parse([_recipe_of(args.gin_file), *args.gin_file], args.gin_bindings)
    run = build("RunConfig")
    return run, render(run)


def binds(name: str, files: Sequence[str], bindings: Sequence[str]) -> bool:
    """Returns whether gin files and bindings set any field of the config class `name`; raises as `parse`."""
    parse(files, bindings)
    return any(_is_bound(f"{name}.{field.name}") for field in dataclasses.fields(configurables()[name]))


def _is_bound(parameter: str) -> bool:
    try:
        gin.query_parameter(parameter)
    except ValueError:
        return False
    return True


def _recipe_of(files: Sequence[str]) -> str:
    """Returns the recipe that completes a model file given alone."""
    for file in reversed(files):
        path = Path(file)
        recipe = recipe_file(path.parent.name, path.stem)
        if (config_folder() / recipe).is_file():
            return recipe
    raise UserError(
        f"{', '.join(files)}: sets no RunConfig.model, and is no model file with a recipe; "
        "add a recipe, for example --gin_file=runs/redllm.gin"
    )


def render(value: Any) -> str:
    """Returns gin text that builds `value` again: every field of every class, defaults included.

    A second, different value of a class gets a scope of its own.
    """
    names: list[tuple[Any, str]] = []
    _name_parts(value, names)
    return "\n".join(_section(part, name, names) for part, name in names)


def _name_parts(value: Any, names: list[tuple[Any, str]]) -> None:
    """Adds to `names` the dataclasses within `value` that are not there yet, each with its name in gin."""
    if isinstance(value, tuple):
        for item in value:
            _name_parts(item, names)
    if not dataclasses.is_dataclass(value) or any(type(part) is type(value) and part == value for part, _ in names):
        return
    cls = type(value).__name__
    same = sum(type(part) is type(value) for part, _ in names)
    names.append((value, cls if not same else f"{cls}_{same + 1}/{cls}"))
    for field in dataclasses.fields(value):
        _name_parts(getattr(value, field.name), names)


def _section(value: Any, name: str, names: list[tuple[Any, str]]) -> str:
    lines = [f"{name}.{f.name} = {_literal(getattr(value, f.name), names)}" for f in dataclasses.fields(value)]
    return "\n".join([f"# {name}", *lines]) + "\n"


def _literal(value: Any, names: list[tuple[Any, str]]) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(_literal(item, names) for item in value)}{',' * (len(value) == 1)})"
    if not dataclasses.is_dataclass(value):
        return repr(value)
    return next(f"@{name}()" for part, name in names if type(part) is type(value) and part == value)


def _quoted(binding: str) -> str:
    """Lets `--gin.Execution.remat=full` stand for the quoted string that gin wants."""
    name, equals, value = binding.partition("=")
    if not equals:
        raise UserError(f"--gin.{binding}: expected --gin.NAME=VALUE")
    is_word = re.fullmatch(r"[A-Za-z_./][\w./:*-]*", value) and value not in ("True", "False", "None")
    return f"{name} = {value!r}" if is_word else f"{name} = {value}"


def _explain(error: Exception) -> str:
    """One line out of gin's several: what is wrong, the nearest right name, the file and line."""
    text = str(error)
    where = re.findall(r'[Ii]n (?:file )?"([^"]+)",? line (\d+)', text)
    if isinstance(error, SyntaxError) and error.filename:
        where, text = [(error.filename, error.lineno)], f"{error.msg} {(error.text or '').strip()!r}"
    location = ", ".join(f"{file} line {line}" for file, line in where) or "--gin flags"
    if found := re.search(r"Unable to open file: (\S+?)\. ", text):
        return f"{location}: no gin file {found[1]}{nearest(found[1], _known_files())}"
    if found := re.search(r"No configurable matching (?:reference )?'@?([\w./]+)", text):
        return f"{location}: no config class {found[1]!r}{nearest(found[1], configurables())}"
    if found := re.search(
        r"(?:Configurable|configurable) '([^']+)' (?:doesn't|does not) have a parameter named '([^']+)'", text
    ):
        name = found[1].rsplit(".", 1)[-1]
        fields = [field.name for field in dataclasses.fields(configurables()[name])]
        return f"{location}: {name} has no field {found[2]!r}{nearest(found[2], fields)}"
    if found := re.search(r"missing \d+ required (?:positional|keyword-only) arguments?: (.*)", text):
        owner = re.search(r"(\w+)\.__init__\(\)", text)
        fields = re.findall(r"'(\w+)'", found[1].split("\n")[0])
        names = ", ".join(f"{owner[1] + '.' if owner else ''}{field}" for field in fields)
        return f"no value for {names}: set it in a gin file or with --gin.NAME=VALUE"
    return f"{location}: {' '.join(text.split())}"

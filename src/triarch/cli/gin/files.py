"""gin at the edge: files and bindings in, frozen dataclasses out, and back to text.

gin files are data: they bind fields of the config classes and nothing else, see `gin_statements` for what they may
say and `gin_values` for what comes of it. No code below the command line knows of gin.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triarch.cli.gin.statements import Binding, missing, read_files, read_flag, read_text
from triarch.cli.gin.values import GinValues
from triarch.errors import UserError
from triarch.registry import registered

_PACKAGED = Path(__file__).parents[2] / "gin_configs"
_CHECKOUT = Path(__file__).parents[4] / "gin_configs"


def config_folder() -> Path:
    """Returns where triarch's own gin files lie: in the checkout, or in the installed package."""
    return _CHECKOUT if _CHECKOUT.is_dir() else _PACKAGED


def add_gin_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds T5X's flags: `--gin_file=F` and `--gin.NAME=VALUE`, both repeatable."""
    parser.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="a gin file: a path, or a name under gin_configs/; later files override earlier ones (repeatable)",
    )
    add_binding_argument(parser)


def add_binding_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--gin.NAME=VALUE` (repeatable), which `main` takes."""
    parser.add_argument(
        "--gin.NAME",
        dest="_gin",
        metavar="VALUE",
        help="set one value, e.g. --gin.RunConfig.steps=100 (repeatable); `triarch describe --keys` lists what there "
        "is. A value that changes nothing, such as Cosine.peak where the schedule is constant, is refused",
    )


def configurables() -> dict[str, type]:
    """Returns every config class by its name in gin."""
    from triarch.data.mixture import MixturePhase, StoreMixture
    from triarch.evaluation.few_shot.suites import TaskSuite
    from triarch.models import Dropout, Execution, LoRA, ModelConfig, RopeScaling
    from triarch.models.choices import own_parts
    from triarch.objectives import OBJECTIVES
    from triarch.sharding import ActivationRules, AxisRules, MeshConfig, ParameterRules
    from triarch.sweeps.budgets import FixedTokens, IsoFlop, TokensPerParameter
    from triarch.sweeps.shapes import Ladder
    from triarch.sweeps.sizes import Size
    from triarch.sweeps.study import Corpus, Study
    from triarch.sweeps.tuning.suite import LabelSuite, LabelTask
    from triarch.training import config
    from triarch.training.optimizers.optimizer import OPTIMIZERS
    from triarch.training.optimizers.schedules import SCHEDULES
    from triarch.training.phases.phase import BatchWarmup, Phase

    classes = [
        *(config.RunConfig, config.DataConfig, config.CheckpointConfig, StoreMixture, MixturePhase, Phase, BatchWarmup),
        *(ModelConfig, RopeScaling, *own_parts(), Execution, Dropout, LoRA),
        *(MeshConfig, AxisRules, ParameterRules, ActivationRules),
        *OBJECTIVES.values(),
        *OPTIMIZERS.values(),
        *(Study, Corpus, Size, Ladder, IsoFlop, TokensPerParameter, FixedTokens, TaskSuite, LabelSuite, LabelTask),
        *SCHEDULES.values(),
    ]
    own = {cls.__name__: cls for cls in classes}
    if taken := own.keys() & registered().keys():
        name = min(taken)
        raise UserError(f"{registered()[name].__module__}.{name}: triarch has a class of that name: choose another")
    return own | registered()


# What was parsed last; as in gin itself, one config at a time.
_values = GinValues([], {})


def parse(files: Sequence[str], bindings: Sequence[str]) -> None:
    """Reads gin files and bindings, in order, in place of what was there.

    Raises:
      UserError: a file is missing or unreadable, or a line names something that does not exist or is no gin.
    """
    _take(_read(files, bindings))
    _values.check_macros()


def _read(files: Sequence[str], bindings: Sequence[str]) -> list[Binding]:
    flags = [read_flag(binding) for binding in bindings]
    return [*read_files([find(file) for file in files], config_folder()), *flags]


def _take(bindings: Sequence[Binding]) -> None:
    global _values
    _values = GinValues(bindings, configurables())


def find(file: str) -> Path:
    """Returns the path of a gin file given as a path or as a name under gin_configs/.

    Raises:
      UserError: there is none.
    """
    for path in (Path(file), config_folder() / file):
        if os.path.isfile(path):
            return path
    if os.path.exists(file):
        raise UserError(f"{file}: is no regular file, expected a gin file")
    raise UserError(missing(file, config_folder()))


def recipe_file(family: str, size: str) -> str:
    """Returns the gin file of the published recipe for a size of a family, or for the whole family."""
    of_size = f"runs/{family}/{size}.gin"
    return of_size if os.path.isfile(config_folder() / of_size) else f"runs/{family}.gin"


def build(name: str) -> Any:
    """Returns the value of the config class `name` that the parsed gin describes.

    Raises:
      UserError: a required field was set nowhere, or a value does not fit.
    """
    return _values.build(name)


def is_bound(name: str) -> bool:
    """Returns whether the parsed gin binds a field, such as "LabelSuite.models"."""
    return bool(_values.bound(*name.split(".")))


def build_field(name: str) -> Any | None:
    """Returns the value that the parsed gin binds to a field, such as "RunConfig.objective"; None if it binds none.

    Raises:
      UserError: a required field within it was set nowhere, or a value does not fit.
    """
    return _values.field(*name.split("."))


def load_run(args: argparse.Namespace, base: Any | None = None) -> tuple[Any, str]:
    """Returns (RunConfig, its resolved gin text) for a verb's `--gin_file` and `--gin.NAME` flags.

    Args:
      args: of the verb.
      base: a RunConfig that files and flags change; none by default.
    """
    if base is not None:
        _take([*read_text(render(base), "the run's config"), *_read(args.gin_file, args.gin_bindings)])
    elif not args.gin_file:
        raise UserError("--gin_file is required, for example --gin_file=models/redllm/150m.gin")
    else:
        _take(_read(args.gin_file, args.gin_bindings))
        if not _values.bound("RunConfig", "model"):
            _take(_read([_recipe_of(args.gin_file), *args.gin_file], args.gin_bindings))
    _values.check_macros()
    run = build("RunConfig")
    check_effects()
    return run, render(run)


def changed(value: Any, bindings: Sequence[str]) -> Any:
    """Returns a config value as `--gin.NAME` flags change it.

    Raises:
      UserError: a flag names what does not exist, has no effect, or its value does not fit.
    """
    _take([*read_text(render(value), "the config"), *_read([], bindings)])
    _values.check_macros()
    found = build(type(value).__name__)
    refuse_flags_without_effect()
    return found


def check_effects() -> None:
    """Says on stderr which bindings in the user's own files had no effect on what was built since `parse`.

    Raises:
      UserError: a flag had none.
    """
    refuse_flags_without_effect()
    say_without_effect(unused_lines())


def refuse_flags_without_effect() -> None:
    """Raises UserError where a flag had no effect on what was built since `parse`."""
    for binding in _values.unused():
        if binding.flag:
            raise UserError(_values.no_effect(binding))


def unused_lines() -> list[str]:
    """Returns a line for each binding in the user's own files that had no effect on what was built since `parse`."""
    return [_values.no_effect(binding) for binding in _values.unused() if not binding.flag]


def say_without_effect(lines: Sequence[str]) -> None:
    """Prints the first of `lines` to stderr, and how many more there are."""
    if lines:
        more = f"; and {len(lines) - 1} more without effect" if len(lines) > 1 else ""
        print(f"triarch: {lines[0]}{more}", file=sys.stderr)


def binds(name: str, files: Sequence[str], bindings: Sequence[str]) -> bool:
    """Returns whether gin files and bindings set any field of the config class `name`; raises as `parse`."""
    _take(_read(files, bindings))
    return any(_values.bound(name, field.name) for field in dataclasses.fields(configurables()[name]))


def _recipe_of(files: Sequence[str]) -> str:
    """Returns the recipe that completes a model file given alone."""
    for file in reversed(files):
        path = Path(file)
        recipe = recipe_file(path.parent.name, path.stem)
        if os.path.isfile(config_folder() / recipe):
            return recipe
    _values.check_macros()  # A binding without its class may be what is amiss.
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
    # A run's phases go by their own names, by which one may change them.
    scope = getattr(value, "name", None) if cls == "Phase" else f"{cls}_{same + 1}" if same else None
    names.append((value, f"{scope}/{cls}" if scope else cls))
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

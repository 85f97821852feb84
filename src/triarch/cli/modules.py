"""`--module=MODULE`: Python modules of the user's own, imported because the user names them and for no other reason."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from triarch import registry
from triarch.errors import UserError, nearest
from triarch.files import sha256

# Modules that were imported from a file, by name: the file and its sha256.
_FROM_FILES: dict[str, tuple[Path, str]] = {}


def add_module_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--module`."""
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a Python module first, which may register SeqIO tasks, objectives, optimizers, schedules and "
        "parts of layers: a dotted name on PYTHONPATH or in the current folder, or the path of a .py file "
        "(repeatable); it runs with your rights, and nothing but this flag makes triarch run code",
    )


def import_modules(names: Sequence[str]) -> None:
    """Imports modules by dotted name or path.

    Raises:
      UserError: there is none of that name, or importing it failed; says where.
    """
    for name in names:
        if name.endswith(".py") or os.sep in name:
            _import_file(name)
        else:
            _import_name(name)


def check_named(needed: Sequence[str], named: Sequence[str], owner: str) -> None:
    """Makes sure that the user named the modules that a file asks for.

    Raises:
      UserError: one is missing.
    """
    given = {_stem(name) for name in named}
    for name in needed:
        if _stem(name) not in given:
            raise UserError(f"{owner} asks for {name}; a gin file imports nothing by itself: give --module={name}")


def _stem(name: str) -> str:
    """Returns the name under which a module is imported."""
    return Path(name).stem if name.endswith(".py") or os.sep in name else name


def _import_name(name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UserError(f"--module={name}: expected a dotted name, or the path of a .py file")
    first = name.split(".")[0]
    here = os.getcwd()
    if first not in sys.modules and importlib.util.find_spec(first) is None and here not in sys.path:
        sys.path.append(here)
        importlib.invalidate_caches()
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise _failed(name, error) from error
        files = [path.stem for path in Path().glob("*.py")]
        hint = nearest(name, files) if files else ""
        raise UserError(f"--module={name}: no such module on PYTHONPATH or in the current folder{hint}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _failed(name, error) from error


def _import_file(name: str) -> None:
    path = Path(name)
    if not path.is_file() or path.suffix != ".py":
        files = [str(other) for other in path.parent.glob("*.py")]
        raise UserError(f"--module={name}: no such .py file{nearest(name, files)}")
    path, stem, digest = path.absolute(), path.stem, sha256(path)
    if not stem.isidentifier():
        raise UserError(f"--module={name}: its file cannot be imported under that name: use letters, digits and _")
    if stem not in _FROM_FILES and (other := _file_of(stem)) is not None:
        if other != str(path):
            raise UserError(f"--module={name}: another Python module is called {stem!r}: rename the file")
        if stem in sys.modules:
            return
    if _FROM_FILES.get(stem) == (path, digest):
        return
    # Modules that lie beside it can be imported by it, as when it is run as a script.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    registry.forget(stem)
    spec = importlib.util.spec_from_file_location(stem, path)
    assert spec is not None and spec.loader is not None  # Its name ends in .py.
    module = sys.modules[stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[stem]
        registry.forget(stem)
        _FROM_FILES.pop(stem, None)
        raise _failed(name, error) from error
    _FROM_FILES[stem] = (path, digest)


def _file_of(name: str) -> str | None:
    """Returns the file of the module that `import` finds under a name, or "" if it has none; None without a module."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None) or ""
    spec = importlib.util.find_spec(name)
    return None if spec is None else spec.origin or ""


def _failed(name: str, error: BaseException) -> UserError:
    """Returns one line for what a module raised: the last of its own lines that was running, and the error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    where = f"{frames[-1].filename} line {frames[-1].lineno}: " if frames else ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename} line {error.lineno}: "
    message = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return UserError(f"--module={name}: {where}{kind}{message[:300]}")


def _is_machinery(file: str) -> bool:
    """Whether a line is of Python, of triarch or of an installed library, so that its caller says more."""
    path = Path(file)
    libraries = (Path(os.__file__).parent, Path(__file__).parents[1])
    return file.startswith("<") or "site-packages" in path.parts or any(map(path.is_relative_to, libraries))

"""Two corpora that exist on every machine: the Python standard library's source and its documentation.

Nothing is imported or executed: the files are read, and parsed with `ast` where strings are taken from them. Both
corpora key a document by its module, so a module that is held out of one is held out of the other.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import os
import platform
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from triarch.errors import UserError
from triarch.prepare.corpora.documents import Document
from triarch.prepare.corpora.origins import named

# Tests, installed packages, and generated tables (character maps; the help topics, which are prose).
_SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "encodings", "pydoc_data"}
)
_GENERATED = "_sysconfigdata"
_BLOCKS = (ast.stmt, ast.ExceptHandler, ast.match_case)
_TOPICS = Path("pydoc_data", "topics.py")


def _root() -> Path:
    return Path(os.__file__).parent


@dataclasses.dataclass(frozen=True)
class StdlibCode:
    """The standard library's `.py` files, one document each, without tests, installed packages and generated files."""

    root: Path = dataclasses.field(default_factory=_root)

    def documents(self) -> Iterator[Document]:
        """Yields the files in the order of their paths."""
        for path in _modules(self.root):
            text = _read(path)
            if text:
                size, key = path.stat().st_size, _key(self.root, path)
                yield Document(text, key, size, origin=named(key, start=0, end=size))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in _modules(self.root))

    @property
    def version(self) -> str:
        """Which Python's library it is."""
        return f"{self} {_provenance()}"

    def provenance(self) -> dict[str, Any]:
        """Returns which Python's library it is."""
        return _provenance()


@dataclasses.dataclass(frozen=True)
class StdlibProse:
    """The language reference's help topics, one document each, and the docstrings of every module, one document each.

    A module's docstrings (its own, its classes' and functions' in the order of the source) are joined by blank lines.
    """

    root: Path = dataclasses.field(default_factory=_root)

    def documents(self) -> Iterator[Document]:
        """Yields the help topics, then the modules' docstrings in the order of their paths."""
        for name, text in _topics(self.root):
            yield Document(text, f"topic {name}", len(text.encode()), origin=named(f"topic {name}"))
        for path in _modules(self.root):
            text = "\n\n".join(_docstrings(_read(path)))
            if text:
                key = _key(self.root, path)
                yield Document(text, key, path.stat().st_size, origin=named(key))

    @property
    def size(self) -> int:
        """Bytes of the files the text is taken from."""
        topics = self.root / _TOPICS
        return StdlibCode(self.root).size + (topics.stat().st_size if topics.is_file() else 0)

    @property
    def version(self) -> str:
        """Which Python's library it is."""
        return f"{self} {_provenance()}"

    def provenance(self) -> dict[str, Any]:
        """Returns which Python's library it is."""
        return _provenance()


def _provenance() -> dict[str, Any]:
    return {"python": f"{platform.python_implementation()} {platform.python_version()}"}


def _key(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _modules(root: Path) -> list[Path]:
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        for name in files:
            if name.endswith(".py") and not name.startswith(_GENERATED):
                found.append(Path(folder, name))
    if not found:
        raise UserError(f"{root}: this Python keeps no .py files of its standard library; give text with --files")
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _read(path: Path) -> str:
    raw = path.read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
    return raw.decode("utf-8" if encoding == "utf-8-sig" else encoding)


def _topics(root: Path) -> list[tuple[str, str]]:
    path = root / _TOPICS
    if not path.is_file():
        return []
    for node in ast.parse(_read(path)).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            return sorted((name, text) for name, text in ast.literal_eval(node.value).items() if text)
    return []


def _docstrings(source: str) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        module = ast.parse(source)
    pending: list[ast.AST] = [module]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring
        # Definitions stand in statements only, so expressions, most of the tree, are not entered.
        pending.extend(child for child in reversed(list(ast.iter_child_nodes(node))) if isinstance(child, _BLOCKS))

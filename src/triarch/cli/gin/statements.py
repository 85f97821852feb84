"""What gin files and flags state, read as data: bindings, macros, references and includes.

gin's own parser reads them; nothing is imported, registered or called. What may be included depends on who named the
file: a file that the user named may include files anywhere, any other only what lies below its own folder or among
triarch's gin files.
"""

from __future__ import annotations

import dataclasses
import os
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gin import config_parser

from triarch.errors import UserError, nearest
from triarch.files import check_regular, read_regular

FLAGS = "--gin flags"
# Written by triarch into runs and exports: these come along with data, whoever names them, and include nothing.
_RESOLVED = ("config.gin", "model.gin")
_SUFFIX = ".gin"
# Of all files that are read together: gin's parser takes about 15 microseconds a byte, and triarch's longest file has
# 1,544 bytes.
_MOST_BYTES = 2**18
# One behind the other, which gin joins in a time that grows with their square.
_MOST_STRINGS = 32
_MOST_FILES = 200
_MOST_DEPTH = 20
_MOST_CHARACTERS = 160


@dataclasses.dataclass(frozen=True)
class Reference:
    """`@SCOPE/NAME` or, evaluated, `@SCOPE/NAME()`; NAME is a config class."""

    scope: str
    name: str
    evaluate: bool


@dataclasses.dataclass(frozen=True)
class Macro:
    """`%NAME`."""

    name: str


@dataclasses.dataclass(frozen=True)
class Binding:
    """`SCOPE/OWNER.FIELD = value`, or a macro's `FIELD = value` without an owner.

    Attributes:
      scope: joined by "/"; empty for none.
      owner: name of a config class; empty for a macro.
      field: of the class, or the macro's name.
      value: literals, references and macros.
      where: file and line, for messages.
      named: whether it stands in a file or flag that the user named and wrote: not in an included file.
    """

    scope: str
    owner: str
    field: str
    value: Any
    where: str
    named: bool

    @property
    def flag(self) -> bool:
        """Whether the user gave it as a flag."""
        return self.where == FLAGS

    @property
    def key(self) -> str:
        """The left side as one writes it."""
        key = f"{self.owner}.{self.field}" if self.owner else self.field
        return f"{self.scope}/{key}" if self.scope else key


def parts(value: Any) -> Iterator[Reference | Macro]:
    """Yields the references and macros within the value of a binding."""
    if isinstance(value, Reference | Macro):
        yield value
    elif isinstance(value, dict):
        for item in value.items():
            yield from parts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from parts(item)


def read_flag(flag: str) -> Binding:
    """Returns what `--gin.NAME=VALUE` binds, given as "NAME=VALUE"; text that is no gin value stands for itself.

    Raises:
      UserError: there is no "=", NAME is malformed, or VALUE begins as a gin value and is none.
    """
    name, equals, text = flag.partition("=")
    name, text = name.strip(), text.strip()
    if not equals or not text:
        raise UserError(f"--gin.{shortened(flag)}: expected --gin.NAME=VALUE")
    try:
        statement, *others = _Parser(f"{name} = 0", _Delegate())
        if others or not isinstance(statement, config_parser.BindingStatement):
            raise SyntaxError("more than a name")
    except _UNREADABLE as error:
        raise UserError(f"--gin.{shortened(flag)}: expected --gin.NAME=VALUE, such as RunConfig.steps=100") from error
    value = _flag_value(name, text)
    return _binding(statement._replace(value=value), FLAGS, named=True)


def _flag_value(name: str, text: str) -> Any:
    try:
        statement, *others = _Parser(f"value = {text}", _Delegate())
        if not others:
            return statement.value
    except _UNREADABLE as error:
        if text[:1] in tuple("'\"([{@%"):
            raise UserError(f"{FLAGS}: {_complaint(error)}: {shortened(f'{name}={text}')!r}") from error
    return text


def read_text(text: str, where: str) -> list[Binding]:
    """Returns the bindings of gin text that triarch wrote itself.

    Args:
      text: without includes.
      where: what it describes, for messages.
    """
    statements = _Parser(text, _Delegate())
    return [_binding(found, where, named=False) for found in statements]


def missing(name: str, own: Path) -> str:
    """Returns the line that says that there is no gin file `name`, and which of those in the folder `own` is near."""
    hint = nearest(name, [str(path.relative_to(own)) for path in own.rglob(f"*{_SUFFIX}")])
    if "did you mean" not in hint:
        hint = " (triarch's own are models/FAMILY/SIZE.gin, runs/FAMILY.gin and others under gin_configs/)"
    return f"no gin file {shortened(name)}{hint}"


def read_files(paths: Sequence[Path], own: Path) -> list[Binding]:
    """Returns the bindings of gin files that the user named, and of those that they include, in order.

    Args:
      paths: of the files.
      own: folder of triarch's gin files.

    Raises:
      UserError: naming file and line, where one is unreadable or no gin, imports something, or includes what it may
        not, or itself.
    """
    reader = _Reader(own)
    return [binding for path in paths for binding in reader.read(path, path.name not in _RESOLVED, ())]


def read_others(path: Path) -> list[Binding]:
    """Returns the bindings of another project's gin file; what it imports and includes is passed over.

    Raises:
      UserError: naming file and line, where it is unreadable or no gin.
    """
    statements = _statements(_text(path, _MOST_BYTES), path, quoted=False)
    return [
        _binding(found, where, named=False)
        for found, where in statements
        if isinstance(found, config_parser.BindingStatement)
    ]


class _Reader:
    """Reads files and what they include, so much in all."""

    def __init__(self, own: Path):
        self._own = own
        self._count = self._bytes = 0

    def read(self, path: Path, named: bool, within: tuple[Path, ...]) -> Iterator[Binding]:
        """Yields the bindings of a file.

        Args:
          path: of the file.
          named: by the user.
          within: the files that include it, from the outermost on.
        """
        self._count += 1
        if self._count > _MOST_FILES or len(within) > _MOST_DEPTH:
            raise UserError(
                f"{(*within, path)[0]}: includes more than {_MOST_FILES:,} files, or files more than {_MOST_DEPTH} deep"
            )
        text = _text(path, _MOST_BYTES - self._bytes)
        self._bytes += len(text.encode())
        quoted = named and path.suffix == _SUFFIX and not path.is_symlink()
        for statement, where in _statements(text, path, quoted):
            if isinstance(statement, config_parser.ImportStatement):
                raise UserError(
                    f"{where}: import statements are not allowed in gin files; name modules with --module=MODULE"
                )
            if isinstance(statement, config_parser.IncludeStatement):
                included = self._included(statement.filename, path, named, where)
                chain = (*within, path)
                if any(included.resolve() == other.resolve() for other in chain):
                    raise UserError(f"{where}: includes {statement.filename}, which is being read: a loop of includes")
                yield from self.read(included, False, chain)
            elif isinstance(statement, config_parser.BindingStatement):
                ours = path.resolve().is_relative_to(self._own.resolve())
                yield _binding(statement, where, named=named and not ours)

    def _included(self, name: str, by: Path, named: bool, where: str) -> Path:
        """Returns the path of an included file.

        Raises:
          UserError: there is none, or it lies where `by` may not look.
        """
        shown = shortened(name)
        if not name.endswith(_SUFFIX) or "\0" in name:
            raise UserError(f"{where}: include {shown!r}: expected a file that ends in {_SUFFIX}")
        # Whoever named the file by hand may refer to others as from the command line.
        roots = [by.parent, self._own, *([Path()] if named else [])]
        for root in roots:
            path = root / name
            if os.path.isfile(path):
                if named or path.resolve().is_relative_to(root.resolve()):
                    return path
                break
        if not named and (os.path.isabs(name) or ".." in Path(name).parts or path.is_symlink()):
            raise UserError(
                f"{where}: include {shown!r} leaves its folder, as only a file that you name on the command line may"
            )
        raise UserError(f"{where}: {missing(name, self._own)}")


class _Parser(config_parser.ConfigParser):
    """gin's own, which refuses strings without end."""

    _strings = 0

    def _advance_one_token(self) -> None:
        super()._advance_one_token()
        if self._current_token.type not in (tokenize.NL, tokenize.COMMENT):
            self._strings = self._strings + 1 if self._current_token.type == tokenize.STRING else 0
        if self._strings > _MOST_STRINGS:
            self._raise_syntax_error(f"More than {_MOST_STRINGS} strings stand one behind the other.")


class _Delegate(config_parser.ParserDelegate):
    """Keeps references and macros as they stand, where gin itself would look them up."""

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Reference:
        scope, _, name = scoped_configurable_name.rpartition("/")
        return Reference(scope, _own(name), evaluate)

    def macro(self, macro_name: str) -> Macro:
        return Macro(macro_name)


def _own(name: str) -> str:
    """Config classes may be written with their package, as gin does."""
    return name.removeprefix("triarch.")


def _binding(statement: config_parser.BindingStatement, where: str, named: bool) -> Binding:
    if statement.arg_name:
        return Binding(statement.scope, _own(statement.selector), statement.arg_name, statement.value, where, named)
    return Binding(statement.scope, "", statement.selector, statement.value, where, named)


# What gin's parser and Python's tokenizer raise about text that is no gin.
_UNREADABLE = (SyntaxError, tokenize.TokenError, ValueError, TypeError, RecursionError, StopIteration, MemoryError)


def _statements(lines: str, path: Path, quoted: bool) -> Iterator[tuple[Any, str]]:
    """Yields the statements of a file, each with file and line; `quoted` lets messages quote the file."""
    parser = None
    try:
        parser = _Parser(lines, _Delegate())
        while (statement := parser.parse_statement()) is not None:
            yield statement, f"{path} line {statement.location.line_num}"
    except _UNREADABLE as error:
        line = _line(error, parser)
        where = str(path) if line is None else f"{path} line {line}"
        text = lines.splitlines()[line - 1].strip() if quoted and line and line <= len(lines.splitlines()) else ""
        quote = f" {shortened(text)!r}" if text else ""
        raise UserError(f"{where}: {_complaint(error)}{quote}") from error


def _text(path: Path, most_bytes: int) -> str:
    """Returns what a file holds, without a byte order mark; `most_bytes` is what the files before it left of the most.

    Raises:
      UserError: it cannot be read, is too long, or no text.
    """
    try:
        if check_regular(path) > most_bytes:
            raise UserError(f"{path}: gin files of more than {_MOST_BYTES:,} bytes in all are not read")
        text = read_regular(path, most_bytes).decode()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a gin file: not UTF-8 text") from error
    if "\0" in text:
        raise UserError(f"{path}: not a gin file: it holds a NUL character")
    return text.removeprefix("\ufeff")


def _line(error: Exception, parser: config_parser.ConfigParser | None) -> int | None:
    if isinstance(error, SyntaxError) and error.lineno:
        return error.lineno
    if isinstance(error, tokenize.TokenError):
        return error.args[1][0]
    token = parser and parser.current_token
    return token.start[0] if token else None


def _complaint(error: Exception) -> str:
    """Returns what is wrong, in words that hold nothing of the file."""
    if isinstance(error, RecursionError | MemoryError):
        return "nested too deeply"
    if isinstance(error, tokenize.TokenError):
        return "a bracket or string is not closed"
    if isinstance(error, SyntaxError):
        first = str(error.msg).split("\n")[0].split("  Got ")[0]
        return first if "Failed to parse" not in str(error.msg) else "Unable to parse value."
    return "Unable to parse value."


def shortened(text: str) -> str:
    """Returns text on one line, cut where it would fill the screen."""
    text = " ".join(text.split())
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."

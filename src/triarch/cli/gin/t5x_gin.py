"""What the gin file of a T5X run says of its network: the literals that it binds to `T5Config`.

T5X saves a run's gin as MODEL_DIR/config.gin, beside its checkpoints. It is read as data: nothing that it imports,
includes or refers to is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from triarch.cli.gin.statements import Binding, Macro, parts, read_others
from triarch.errors import UserError
from triarch.files import check_regular
from triarch.interchange.t5x import Said

_NAMES = ("config.gin", "model.gin")
_CLASS = "T5Config"
_MOST_MACROS = 20


def said_beside(checkpoint: Path) -> Said | None:
    """Returns what the gin file of a checkpoint's run says; None if there is none that says anything.

    Raises:
      UserError: such a file is unreadable, or a link out of its folder.
    """
    folders = (checkpoint, checkpoint.absolute().parent)
    for path in (folder / name for folder in folders for name in _NAMES):
        if path.is_file():
            check_regular(path, path.parent)
            said = _said(path)
            if said.values:
                return said
    return None


def said_by(path: Path) -> Said:
    """Returns what a gin file that the user named says.

    Raises:
      UserError: it is unreadable, or binds nothing to `T5Config`.
    """
    try:
        check_regular(path)
    except OSError as error:
        raise UserError(f"--t5x_gin={path}: cannot be read: {error.strerror}") from None
    said = _said(path)
    if not said.values:
        raise UserError(f"--t5x_gin={path}: says nothing of {_CLASS}: expected the gin file of a T5X model or run")
    return said


def _said(path: Path) -> Said:
    bindings = read_others(path)
    own = {binding.field: binding for binding in bindings if binding.owner.split(".")[-1] == _CLASS}
    values = {field: _literal(binding, bindings) for field, binding in own.items()}
    return Said({field: value for field, value in values.items() if not any(parts(value))}, str(path))


def _literal(binding: Binding, bindings: Sequence[Binding]) -> object:
    """Returns what a field has, or a macro or reference where the file does not say."""
    macros = {found.field: found.value for found in bindings if not found.owner and not found.scope}
    value = binding.value
    for _ in range(_MOST_MACROS):
        if not (isinstance(value, Macro) and value.name in macros):
            break
        value = macros[value.name]
    return value

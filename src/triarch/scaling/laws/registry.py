"""All laws by name: triarch's own, and those that a user's modules register."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from triarch.errors import UserError, nearest
from triarch.scaling.checks.rivals import RivalForm
from triarch.scaling.laws.chinchilla import Chinchilla
from triarch.scaling.laws.formula import Formula
from triarch.scaling.laws.law import Law, truth
from triarch.scaling.laws.log_linear import LogLinear
from triarch.scaling.laws.optima.envelope import Envelope
from triarch.scaling.laws.optima.hyperparameters import Hyperparameters
from triarch.scaling.laws.optima.isoflop import Isoflop
from triarch.scaling.laws.power import Power
from triarch.scaling.laws.published.bhagia import Bhagia
from triarch.scaling.laws.published.data_constrained import DataConstrained
from triarch.scaling.laws.published.downstream import Downstream
from triarch.scaling.laws.published.multi_power import MultiPowerLaw
from triarch.scaling.laws.published.named_formulas import NAMED_FORMULAS
from triarch.scaling.laws.published.tissue import Tissue
from triarch.scaling.tables.columns import Columns

# Those whose settings have flags of their own on the command line.
OWN_LAWS = (
    Chinchilla, Power, DataConstrained, Isoflop, Envelope, Hyperparameters, LogLinear, Downstream, Formula,
    *NAMED_FORMULAS, Bhagia, Tissue, MultiPowerLaw,
)  # fmt: skip
LAWS: dict[str, type[Law]] = {law.name: law for law in OWN_LAWS}
EXPECTED = {int: "a whole number", float: "a number", truth: "true or false"}


def register(law: type[Law]) -> type[Law]:
    """Adds a law under its name; returns it, so that it serves as a decorator.

    A module that is imported anew replaces its own laws.

    Raises:
      UserError: it is no whole law, or its name is taken.
    """
    if not (isinstance(law, type) and issubclass(law, Law)):
        raise UserError(f"register_law: expected a class derived from triarch.scaling.laws.law.Law, not {law!r}")
    where = f"{law.__module__}.{law.__qualname__}"
    if "__dataclass_params__" not in vars(law) or not vars(law)["__dataclass_params__"].frozen:
        raise UserError(f"{where}: expected a frozen dataclass (@dataclasses.dataclass(frozen=True))")
    missing = [what for what in ("name", "text", "needs") if not getattr(law, what, None)]
    missing += sorted(law.__abstractmethods__)
    if missing:
        raise UserError(f"{where}: a law needs {', '.join(missing)}")
    if unset := [field.name for field in dataclasses.fields(cast(Any, law)) if "help" not in field.metadata]:
        raise UserError(f"{where}.{unset[0]}: expected triarch.scaling.laws.law.setting(default, help)")
    other = LAWS.get(law.name)
    if other is not None and other.__module__ != law.__module__:
        owner = "triarch" if other in OWN_LAWS else f"module {other.__module__}"
        raise UserError(f"{where}: {owner} has a law {law.name!r}: choose another name")
    LAWS[law.name] = law
    return law


def named(name: str) -> type[Law]:
    """Returns the law of a name. Raises UserError without one; the nearest is named."""
    if name not in LAWS:
        raise UserError(f"no law {name!r}{nearest(name, LAWS)}")
    return LAWS[name]


def make(name: str, settings: Mapping[str, Any]) -> Law:
    """Returns a law with settings; texts are read as what each setting is.

    Raises:
      UserError: no such law, a setting that it does not have, or a value that the setting cannot have.
    """
    law = named(name)
    known, values = law.settings(), {}
    for key, value in settings.items():
        if key not in known:
            others = [f"--law={other}" for other, cls in LAWS.items() if key in cls.settings()]
            hint = f"; it is of {' and '.join(others)}" if others else nearest(key, known)
            raise UserError(f"fit --law={name} has no --{key}{hint}")
        values[key] = _value(key, value, known[key])
    return law(**values)


def candidates(columns: Columns, asked: Law | None = None) -> list[RivalForm]:
    """Returns every form of the loss that these columns allow, of all laws; `asked` with its settings."""
    laws = [asked if asked is not None and isinstance(asked, law) else law() for law in LAWS.values()]
    return [one for law in laws for one in law.candidates(columns)]


def _value(key: str, value: Any, facts: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        try:
            value = facts["kind"](value)
        except ValueError:
            wanted = EXPECTED.get(facts["kind"], "another value")
            raise UserError(f"--setting={key}={value}: expected {wanted}") from None
    if facts["choices"] and value not in facts["choices"]:
        raise UserError(f"{key} is {value!r}{nearest(str(value), facts['choices'])}")
    return value

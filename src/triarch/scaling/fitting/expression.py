"""Formulas such as "E + A / N^alpha": read from text, of which nothing is run, and evaluated with their derivatives."""

from __future__ import annotations

import abc
import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import scipy.special

from triarch.errors import UserError, nearest

# Of each part of a formula: its value, and its derivative by each name that was asked for and that it depends on.
Dual = tuple[np.ndarray, dict[str, np.ndarray]]

MOST_TOKENS = 400
MOST_NESTED = 40
TOKEN = re.compile(r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<mark>\*\*|\S))")
# What people paste from papers.
TYPESET = str.maketrans({"\N{MINUS SIGN}": "-", "\N{MULTIPLICATION SIGN}": "*", "\N{MIDDLE DOT}": "*"})
SUM, PRODUCT, SIGN, POWER, ATOM = range(5)


class Expression(abc.ABC):
    """A part of a formula.

    Attributes:
      parts: what it is made of.
      precedence: how tightly it holds together, for parentheses.
    """

    parts: tuple[Expression, ...] = ()
    precedence: int = ATOM

    @abc.abstractmethod
    def dual(self, values: Mapping[str, object], by: Collection[str]) -> Dual:
        """Returns its value and derivatives where names have these values, which broadcast together."""

    @abc.abstractmethod
    def spell(self, numbers: Mapping[str, str]) -> str:
        """Returns it in writing, names replaced by their numbers where they have one."""

    def walk(self) -> Iterator[Expression]:
        """Returns itself and all its parts, from left to right."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def names(self) -> list[str]:
        """Returns the names in it, in the order of their first appearance."""
        return list(dict.fromkeys(one.name for one in self.walk() if isinstance(one, Name)))

    def value(self, values: Mapping[str, object]) -> np.ndarray:
        """Returns its value."""
        with np.errstate(all="ignore"):
            return np.asarray(self.dual(values, ())[0])

    def held(self, numbers: Mapping[str, str], least: int) -> str:
        """Returns it in writing, in parentheses where it holds together less tightly than `least`."""
        text = self.spell(numbers)
        loose = self.precedence < least or (text.startswith("-") and least > SUM)
        return f"({text})" if loose else text


@dataclasses.dataclass(frozen=True)
class Constant(Expression):
    """A number as it was written."""

    number: float
    text: str

    def dual(self, values: Mapping[str, object], by: Collection[str]) -> Dual:
        return np.asarray(self.number), {}

    def spell(self, numbers: Mapping[str, str]) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Name(Expression):
    """A column or a parameter."""

    name: str

    def dual(self, values: Mapping[str, object], by: Collection[str]) -> Dual:
        value = np.asarray(values[self.name], np.float64)
        return value, {self.name: np.ones_like(value)} if self.name in by else {}

    def spell(self, numbers: Mapping[str, str]) -> str:
        return numbers.get(self.name, self.name)


@dataclasses.dataclass(frozen=True)
class Negative(Expression):
    """Minus something."""

    part: Expression
    precedence = SIGN

    @property
    def parts(self) -> tuple[Expression, ...]:
        return (self.part,)

    def dual(self, values: Mapping[str, object], by: Collection[str]) -> Dual:
        value, slopes = self.part.dual(values, by)
        return -value, {name: -slope for name, slope in slopes.items()}

    def spell(self, numbers: Mapping[str, str]) -> str:
        return f"-{self.part.held(numbers, SIGN)}"


@dataclasses.dataclass(frozen=True)
class Operation(Expression):
    """Two parts with +, -, *, / or ^ between them."""

    mark: str
    left: Expression
    right: Expression

    @property
    def parts(self) -> tuple[Expression, ...]:
        return (self.left, self.right)

    @property
    def precedence(self) -> int:
        return {"+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT, "^": POWER}[self.mark]

    def dual(self, values: Mapping[str, object], by: Collection[str]) -> Dual:
        left, by_left = self.left.dual(values, by)
        right, by_right = self.right.dual(values, by)
        if self.mark == "^":
            return _power(left, by_left, right, by_right)
        if self.mark == "*":
            return left * right, _chain((right, by_left), (left, by_right))
        if self.mark == "/":
            value = left / right
            return value, _chain((1.0 / right, by_left), (-value / right, by_right))
        sign = 1.0 if self.mark == "+" else -1.0
        return left + sign * right, _chain((1.0, by_left), (sign, by_right))

    def spell(self, numbers: Mapping[str, str]) -> str:
        own = self.precedence
        # a - (b - c), a / (b * c) and (a ^ b) ^ c need their parentheses.
        left = self.left.held(numbers, own + (self.mark == "^"))
        right = self.right.held(numbers, own + (self.mark in "-/"))
        return f"{left}^{right}" if self.mark == "^" else f"{left} {self.mark} {right}"


@dataclasses.dataclass(frozen=True)
class Call(Expression):
    """A function of one or two parts."""

    function: str
    parts: tuple[Expression, ...]

    def dual(self, values: Mapping[str, object], by: Collection[str]) -> Dual:
        duals = [part.dual(values, by) for part in self.parts]
        derive: Any = FUNCTIONS[self.function][1]
        value, *slopes = derive(*(dual[0] for dual in duals))
        return value, _chain(*((slope, inner) for slope, (_, inner) in zip(slopes, duals, strict=True)))

    def spell(self, numbers: Mapping[str, str]) -> str:
        return f"{self.function}({', '.join(part.spell(numbers) for part in self.parts)})"


def _sigmoid(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    value = scipy.special.expit(x)
    return value, value * (1.0 - value)


def _root(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    value = np.sqrt(x)
    return value, 0.5 / value


# Each by its number of arguments and what returns its value and its derivative by each of them.
FUNCTIONS = {
    "exp": (1, lambda x: (np.exp(x), np.exp(x))),
    "log": (1, lambda x: (np.log(x), 1.0 / x)),
    "log10": (1, lambda x: (np.log10(x), 1.0 / (x * np.log(10.0)))),
    "sqrt": (1, _root),
    "tanh": (1, lambda x: (np.tanh(x), 1.0 - np.tanh(x) ** 2)),
    "sigmoid": (1, _sigmoid),
    "min": (2, lambda x, y: (np.minimum(x, y), 1.0 * (x <= y), 1.0 * (x > y))),
    "max": (2, lambda x, y: (np.maximum(x, y), 1.0 * (x >= y), 1.0 * (x < y))),
}


def _chain(*parts: tuple[object, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the sum of slopes times what they are of, by name."""
    found: dict[str, np.ndarray] = {}
    for outer, inner in parts:
        for name, slope in inner.items():
            found[name] = found[name] + outer * slope if name in found else outer * slope
    return found


def _power(base: np.ndarray, by_base: Mapping, exponent: np.ndarray, by_exponent: Mapping) -> Dual:
    if by_exponent and not by_base and np.all(base > 0):
        # Of a column: its logarithm is one for all fits, and exp is much faster than a power.
        log_base = np.log(base)
        value = np.exp(exponent * log_base)
        return value, _chain((value * log_base, by_exponent))
    value = base**exponent
    slopes = []
    if by_base:
        slopes.append((exponent * base ** (exponent - 1.0), by_base))
    if by_exponent:
        slopes.append((np.where(value == 0.0, 0.0, value * np.log(base)), by_exponent))
    return value, _chain(*slopes)


def parse(text: str) -> Expression:
    """Returns the formula that a text writes: + - * / ^ (or **), parentheses, numbers, names and FUNCTIONS.

    Raises:
      UserError: it is no such formula; the character that is wrong is told.
    """
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over the marks of one formula."""

    def __init__(self, text: str):
        self.text = text
        self.tokens = [
            (found.lastgroup, found[found.lastgroup], found.start(found.lastgroup))
            for found in TOKEN.finditer(text.translate(TYPESET))
            if found.lastgroup is not None
        ]
        self.place = self.depth = 0
        if not self.tokens:
            raise UserError("the formula is empty, expected one such as 'E + A / N^alpha'")
        if len(self.tokens) > MOST_TOKENS:
            raise UserError(f"the formula has {len(self.tokens)} numbers, names and marks, {MOST_TOKENS} at most")

    def whole(self) -> Expression:
        found = self.sum()
        if self.place < len(self.tokens):
            raise self.wrong("expected an operator such as * or +")
        return found

    def mark(self) -> str:
        """Returns the mark that comes next, "" where none does."""
        kind, text, _ = self.tokens[self.place] if self.place < len(self.tokens) else ("", "", 0)
        return text if kind == "mark" else ""

    def take(self, *marks: str) -> str:
        """Returns the next mark and passes it if it is one of these; "" otherwise."""
        found = self.mark()
        if found not in marks or not found:
            return ""
        self.place += 1
        return found

    def wrong(self, expected: str) -> UserError:
        if self.place >= len(self.tokens):
            return UserError(f"formula {self.text!r}: ends too early: {expected}")
        _, text, start = self.tokens[self.place]
        return UserError(f"formula {self.text!r}, character {start + 1}: {text!r}: {expected}")

    def sum(self) -> Expression:
        found = self.product()
        while mark := self.take("+", "-"):
            found = Operation(mark, found, self.product())
        return found

    def product(self) -> Expression:
        found = self.signed()
        while mark := self.take("*", "/"):
            found = Operation(mark, found, self.signed())
        return found

    def signed(self) -> Expression:
        self.depth += 1
        if self.depth > MOST_NESTED:
            raise self.wrong(f"nested more than {MOST_NESTED} deep")
        mark = self.take("+", "-")
        found = self.signed() if mark else self.power()
        self.depth -= 1
        return Negative(found) if mark == "-" else found

    def power(self) -> Expression:
        base = self.atom()
        return Operation("^", base, self.signed()) if self.take("^", "**") else base

    def atom(self) -> Expression:
        kind, text, _ = self.tokens[self.place] if self.place < len(self.tokens) else ("", "", 0)
        if kind == "number":
            if not np.isfinite(float(text)):
                raise self.wrong("expected a number that a float holds")
            self.place += 1
            return Constant(float(text), text)
        if kind == "name":
            self.place += 1
            return self.call(text) if self.mark() == "(" else Name(text)
        if not self.take("("):
            raise self.wrong("expected a number, a name or a parenthesis")
        found = self.sum()
        if not self.take(")"):
            raise self.wrong("expected ')'")
        return found

    def call(self, function: str) -> Expression:
        if function not in FUNCTIONS:
            self.place -= 1
            raise self.wrong(f"no function{nearest(function, FUNCTIONS)}; a product is written with *")
        start = self.place - 1
        self.take("(")
        parts = [self.sum()]
        while self.take(","):
            parts.append(self.sum())
        if not self.take(")"):
            raise self.wrong("expected ')'")
        count = FUNCTIONS[function][0]
        if len(parts) != count:
            self.place = start
            raise self.wrong(f"expected {count} argument{'s' * (count > 1)}, not {len(parts)}")
        return Call(function, tuple(parts))

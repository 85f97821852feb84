"""Where the minimisation of a formula begins: many guesses at once, each solved for what is linear, the best kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats

from triarch.errors import UserError
from triarch.scaling.fitting.expression import Call, Expression, Name, Negative, Operation
from triarch.scaling.words import join

GUESSES = 1024
KEPT = 48
# What exponents are guessed between.
EXPONENTS = (0.02, 2.0)
# How many powers of ten a scale may lie from what it is divided by.
DECADES = 8.0
# Of a column for which a parameter above zero would have to be negative: this share of what is predicted.
SMALL_SHARE = 1e-3
POSITIVE, FREE = (0.0, np.inf), (-np.inf, np.inf)

Domain = tuple[float, float]


def find_starts(
    expression: Expression,
    domains: Mapping[str, Domain],
    inputs: Mapping[str, np.ndarray],
    target: np.ndarray,
    log_target: bool,
    given: Mapping[str, Sequence[float]],
) -> np.ndarray:
    """Returns values of the parameters to begin at, float64[starts, parameters], the most promising first.

    Parameters in which the formula, or its logarithm, is linear are solved for by least squares at guesses of the
    others, so that no unit of a column matters.

    Args:
      expression: the formula.
      domains: the lowest and highest value of each parameter.
      inputs: float64[points] by name.
      target: float64[points].
      log_target: whether logarithms are fitted.
      given: values to begin at, of parameters that are not to be guessed.

    Raises:
      UserError: the formula has no number at some row, or none above zero where logarithms are fitted.
    """
    linear = _linear_part(expression, domains, log_target, given)
    values = {name: column[None, :] for name, column in inputs.items()}
    guessed = [name for name in domains if name not in linear.plain and name not in linear.logs]
    values |= _guesses(expression, guessed, domains, values, given)
    with np.errstate(all="ignore"):
        values |= linear.solve(values, target, domains)
        predicted = np.asarray(expression.dual(values, ())[0], np.float64)
    count = max([1, *(len(values[name]) for name in domains)])
    predicted = np.broadcast_to(predicted, (count, len(target)))
    good = np.isfinite(predicted) & (predicted > 0) if log_target else np.isfinite(predicted)
    if not good.all(axis=1).any():
        raise _never(good, inputs, log_target)
    with np.errstate(all="ignore"):
        wrong = np.log(predicted / target) if log_target else predicted - target
        distance = np.where(good.all(axis=1), np.abs(wrong).sum(axis=1), np.inf)
    starts = np.column_stack([np.broadcast_to(values[name], (count, 1)) for name in domains])
    order = np.argsort(distance, kind="stable")[: min(KEPT, int(np.isfinite(distance).sum()))]
    return starts[order]


def _never(good: np.ndarray, inputs: Mapping[str, np.ndarray], log_target: bool) -> UserError:
    what = "a number above zero" if log_target else "a number"
    bad = np.flatnonzero(~good.any(axis=0))
    if not len(bad):
        return UserError(f"the formula is not {what} at every row for any start tried: give --bounds, or --starts")
    at = join(f"{name} = {column[bad[0]]:g}" for name, column in inputs.items())
    return UserError(f"row {bad[0] + 1}: the formula is not {what} at {at}, whatever its parameters")


@dataclasses.dataclass(frozen=True)
class _Linear:
    """The parameters that a tree is linear in, by themselves (`plain`) or by their logarithms (`logs`)."""

    tree: Expression
    plain: tuple[str, ...]
    logs: tuple[str, ...]
    logarithm: bool

    def solve(self, values: Mapping[str, np.ndarray], target: np.ndarray, domains: Mapping) -> dict[str, np.ndarray]:
        """Returns float64[guesses, 1] of each by least squares; those that must be above zero are."""
        atoms = [*self.plain, *map(_log_name, self.logs)]
        if not atoms:
            return {}
        zero = dict.fromkeys(atoms, np.zeros((1, 1)))
        base, slopes = self.tree.dual({**values, **zero}, atoms)
        wanted = np.log(target) if self.logarithm else target
        # Errors of a positive amount are taken to be relative.
        weight = 1.0 if self.logarithm or not np.all(target > 0) else 1.0 / target
        count = max([1, *(len(column) for column in values.values())])
        shape = (count, len(target))
        rest = np.broadcast_to(weight * (wanted - base), shape)
        design = np.stack([np.broadcast_to(weight * slopes[atom], shape) for atom in atoms], axis=2)
        whole = np.isfinite(design).all(axis=(1, 2)) & np.isfinite(rest).all(axis=1)
        design, rest = np.where(whole[:, None, None], design, 0.0), np.where(whole[:, None], rest, 0.0)
        norm = np.sqrt((design**2).sum(axis=1))
        norm = np.where(norm > 0, norm, 1.0)
        design = design / norm[:, None, :]
        least = np.array([domains[name][0] == 0.0 for name in self.plain] + [False] * len(self.logs))
        active = np.ones((count, len(atoms)), bool)
        solution = np.zeros((count, len(atoms)))
        for _ in range(len(atoms) + 1):
            used = design * active[:, None, :]
            gram = np.einsum("cpi,cpj->cij", used, used)
            size = np.arange(len(atoms))
            gram[:, size, size] += np.where(active, 1e-11, 1.0)
            solution = np.linalg.solve(gram, np.einsum("cpi,cp->ci", used, rest)[..., None])[..., 0]
            negative = active & least & (solution <= 0)
            if not negative.any():
                break
            active &= ~negative
        scale = np.sqrt((rest**2).sum(axis=1, keepdims=True))
        solution = np.where(least & ~(active & (solution > 0)), SMALL_SHARE * scale, solution) / norm
        found = {name: solution[:, k, None] for k, name in enumerate(self.plain)}
        for k, name in enumerate(self.logs, start=len(self.plain)):
            found[name] = np.exp(np.clip(solution[:, k, None], -600.0, 600.0))
        return found


def _log_name(name: str) -> str:
    return f"log {name}"


def _linear_part(expression: Expression, domains: Mapping, log_target: bool, given: Mapping) -> _Linear:
    """Returns the larger of the parts that the formula and its logarithm are linear in."""
    able = [name for name, domain in domains.items() if name not in given and domain in (POSITIVE, FREE)]
    plain: list[str] = []
    for name in able:
        if _degree(expression, {*plain, name}) <= 1:
            plain.append(name)
    found = _Linear(expression, tuple(plain), (), False)
    if not log_target:
        return found
    tree = _logarithm(expression)
    plain, logs = [], []
    for name in able:
        trial = _with_log_names(tree, {*logs, name})
        if domains[name] == POSITIVE and _degree(trial, {*plain, *map(_log_name, {*logs, name})}, name) <= 1:
            logs.append(name)
        elif _degree(_with_log_names(tree, logs), {*plain, *map(_log_name, logs), name}) <= 1:
            plain.append(name)
    other = _Linear(_with_log_names(tree, logs), tuple(plain), tuple(logs), True)
    return other if len(plain) + len(logs) > len(found.plain) else found


def _degree(tree: Expression, names: set[str], barred: str = "") -> int:
    """Returns 0 where none of the names is in a tree, 1 where it is linear in all of them together, else 2."""
    if isinstance(tree, Name):
        return 2 if tree.name == barred else int(tree.name in names)
    inner = [_degree(part, names, barred) for part in tree.parts]
    if not any(inner):
        return 0
    if isinstance(tree, Negative):
        return inner[0]
    if isinstance(tree, Operation):
        left, right = inner
        if tree.mark in "+-":
            return max(inner)
        if tree.mark == "*":
            return min(left + right, 2)
        if tree.mark == "/":
            return left if right == 0 else 2
    return 2


def _logarithm(tree: Expression) -> Expression:
    """Returns the logarithm of a tree, taken inside products, powers and exponentials."""
    if isinstance(tree, Call) and tree.function == "exp":
        return tree.parts[0]
    if isinstance(tree, Operation):
        if tree.mark in "*/":
            return Operation("+" if tree.mark == "*" else "-", _logarithm(tree.left), _logarithm(tree.right))
        if tree.mark == "^":
            return Operation("*", tree.right, _logarithm(tree.left))
    return Call("log", (tree,))


def _with_log_names(tree: Expression, names: Sequence[str] | set[str]) -> Expression:
    """Returns a tree with log(p) of each of the names written as a name of its own."""
    if isinstance(tree, Call):
        (first, *_) = tree.parts
        if tree.function == "log" and isinstance(first, Name) and first.name in names:
            return Name(_log_name(first.name))
        return Call(tree.function, tuple(_with_log_names(part, names) for part in tree.parts))
    if isinstance(tree, Operation):
        return Operation(tree.mark, _with_log_names(tree.left, names), _with_log_names(tree.right, names))
    return Negative(_with_log_names(tree.part, names)) if isinstance(tree, Negative) else tree


def _guesses(
    expression: Expression,
    names: Sequence[str],
    domains: Mapping[str, Domain],
    inputs: Mapping[str, np.ndarray],
    given: Mapping[str, Sequence[float]],
) -> dict[str, np.ndarray]:
    """Returns guesses of the names, float64[guesses, 1] each: spread evenly over what is plausible for all at once."""
    if not names:
        return {}
    even = scipy.stats.qmc.Halton(len(names), scramble=True, seed=0).random(GUESSES)
    exponents = _exponents(expression)
    typical = {name: np.full((1, 1), 0.3 if name in exponents else 1.0) for name in domains}
    found = {}
    for name, share in zip(names, even.T, strict=True):
        low, high = domains[name]
        if name in given:
            choices = np.asarray(given[name], np.float64)
            guess = choices[(share * len(choices)).astype(int)]
        elif np.isfinite(low) and np.isfinite(high):
            guess = low + (high - low) * (0.01 + 0.98 * share)
        elif name in exponents:
            guess = _spread(share, *EXPONENTS, signed=low == -np.inf)
        else:
            guess = _scales(name, expression, share, low == -np.inf, {**inputs, **typical})
        found[name] = (guess if low in (0.0, -np.inf) or name in given else low + np.abs(guess))[:, None]
    return found


def _exponents(expression: Expression) -> set[str]:
    """Returns the names that stand in an exponent, or that a logarithm or an exponential's argument is taken times."""
    found: set[str] = set()
    for part in expression.walk():
        if isinstance(part, Operation) and part.mark == "^":
            found.update(part.right.names())
        if isinstance(part, Operation) and part.mark == "*":
            for one, other in ((part.left, part.right), (part.right, part.left)):
                if isinstance(one, Name) and isinstance(other, Call) and other.function in ("log", "log10"):
                    found.add(one.name)
    return found


def _spread(share: np.ndarray, low: float, high: float, signed: bool = False) -> np.ndarray:
    """Returns numbers spread evenly in logarithms, half of them below zero where they may be."""
    sign = np.where(share < 0.5, -1.0, 1.0) if signed else 1.0
    share = np.abs(2.0 * share - 1.0) if signed else share
    return sign * low * (high / low) ** share


def _scales(name: str, expression: Expression, share: np.ndarray, signed: bool, values: Mapping) -> np.ndarray:
    """Returns guesses of a parameter from what it stands beside: what it is added to, multiplied or divided by."""
    beside = _beside(name, expression, set(values))
    if beside is None:
        return _spread(share, 1e-2, 1e2, signed)
    mark, other = beside
    column = np.abs(other.value(values)).ravel()
    column = column[np.isfinite(column) & (column > 0)]
    if not len(column):
        return _spread(share, 1e-2, 1e2, signed)
    if mark in "+-":
        low, high = float(column.min()), float(column.max())
        if signed or high < 100.0 * low:
            room = 0.5 * (high - low)
            return low - room + (high - low + 2 * room) * share if signed else _spread(share, low / 3.0, high * 3.0)
        return _spread(share, low / 100.0, high * 100.0)
    centre = float(np.exp(np.log(column).mean()))
    away = 2.0 * (np.abs(2.0 * share - 1.0) if signed else share) - 1.0
    guess = (1.0 / centre if mark == "*" else centre) * 10.0 ** (DECADES * np.sign(away) * away**2)
    return guess * np.where(share < 0.5, -1.0, 1.0) if signed else guess


def _beside(name: str, tree: Expression, known: set[str]) -> tuple[str, Expression] | None:
    """Returns the operation that joins a parameter to something with a column, and that something; None without."""
    for part in tree.parts:
        if name in part.names() and (found := _beside(name, part, known)):
            return found
    if isinstance(tree, Operation) and tree.mark != "^" and name in tree.names():
        other = tree.right if name in tree.left.names() else tree.left
        if name not in other.names() and _has_column(other, known):
            return tree.mark, other
    return None


def _has_column(tree: Expression, known: set[str]) -> bool:
    names = tree.names()
    return bool(names) and set(names) <= known

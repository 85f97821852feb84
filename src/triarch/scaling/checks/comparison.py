"""Two architectures side by side: exponents, gaps at equal size, tokens and compute, crossover, compute multiplier,
best settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from triarch.scaling.checks.frontier import Crossover, Frontier, crossover
from triarch.scaling.fitting.allocation import Allocation
from triarch.scaling.fitting.cost import Cost
from triarch.scaling.fitting.result import Fit

POINTS = 3


@dataclasses.dataclass(frozen=True)
class Difference:
    """A number of the second architecture beside the first's, with the interval of what sets them apart.

    Attributes:
      what: a parameter, or where the losses are compared ("N", "D" or a convention of FLOPs).
      at: the x compared at; None for a parameter.
      first, second: their values.
      difference: second minus first (for a multiplier or a setting: second over first).
      interval: of the difference; None without bootstraps.
      within: whether `at` lies in the range that both measured.
    """

    what: str
    at: float | None
    first: float
    second: float
    difference: float
    interval: tuple[float | None, float | None] | None
    within: bool = True

    def to_json(self) -> dict[str, object]:
        """Returns the numbers; None for one that is not finite (a loss that is never reached)."""
        found = dataclasses.asdict(self)
        for name in ("first", "second", "difference"):
            found[name] = found[name] if np.isfinite(found[name]) else None
        return found

    def shown(self, none: float = 0.0) -> bool:
        """Returns whether the interval leaves out "no difference"."""
        return self.interval is not None and not _holds(self.interval, none)


@dataclasses.dataclass(frozen=True)
class AxisComparison:
    """Two frontiers along one axis."""

    axis: str
    gaps: tuple[Difference, ...]
    crossover: Crossover
    multipliers: tuple[Difference, ...]
    frontiers: tuple[Frontier, Frontier]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The second architecture against the first.

    Attributes:
      first, second: their names.
      pairs: how many pairs of rows the bootstrap drew together; 0 if each architecture was resampled by itself.
      parameters: differences of the law's parameters, exponents among them.
      gaps: of the loss at equal N and D, second minus first (Chinchilla laws).
      settings: best learning rate and batch at equal N and D, second over first (learning-rate laws).
      axes: along parameters, tokens or FLOPs of each convention.
      warnings: sentences on what the comparison does not show.
    """

    first: str
    second: str
    pairs: int
    parameters: tuple[Difference, ...]
    gaps: tuple[Difference, ...]
    axes: tuple[AxisComparison, ...]
    settings: tuple[Difference, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Returns the comparison, as `triarch fit --json` writes it."""
        return {
            "first": self.first,
            "second": self.second,
            "paired": bool(self.pairs),
            "pairs": self.pairs,
            "parameters": [one.to_json() for one in self.parameters],
            "gaps": [one.to_json() for one in self.gaps],
            "settings": [one.to_json() for one in self.settings],
            "axes": [
                {
                    "axis": axis.axis,
                    "gaps": [one.to_json() for one in axis.gaps],
                    "crossover": dataclasses.asdict(axis.crossover),
                    "multipliers": [one.to_json() for one in axis.multipliers],
                }
                for axis in self.axes
            ],
            "warnings": list(self.warnings),
        }


def compare_parameters(first: Fit | Allocation, second: Fit | Allocation) -> tuple[Difference, ...]:
    """Returns the difference of every parameter both have fitted, with the interval of paired resamples."""
    found = []
    for name in first.intervals or first.parameters:
        if name not in second.parameters or name in getattr(first, "fixed", {}):
            continue
        a, b = first.parameters[name], second.parameters[name]
        draws = _paired(first.samples.get(name), second.samples.get(name))
        interval = first.options.interval(draws[1] - draws[0]) if draws else None
        found.append(Difference(name, None, float(a), float(b), float(b - a), interval))
    return tuple(found)


def compare_axis(first: Frontier, second: Frontier) -> AxisComparison:
    """Compares two frontiers along one axis."""
    low, high = max(first.low, second.low), min(first.high, second.high)
    within = low < high
    if not within:
        low, high = min(first.low, second.low), max(first.high, second.high)
    gaps = tuple(loss_gap(first, second, x, within) for x in np.geomspace(low, high, POINTS))
    multipliers = tuple(_multiplier(first, second, loss, within) for loss in _common_losses(first, second))
    return AxisComparison(first.axis, gaps, crossover(first, second), multipliers, (first, second))


def compare_chinchilla(
    names: tuple[str, str], first: Fit, second: Fit, costs: Sequence[tuple[Cost, Cost]], pairs: int
) -> Comparison:
    """Compares two Chinchilla laws: parameters, loss at equal N and equal D, and frontiers in each convention of FLOPs.

    Args:
      names: of the architectures.
      first, second: laws whose bootstraps drew the same pairs, or were drawn apart.
      costs: for each convention, what a run of the first and of the second costs.
      pairs: how many pairs were drawn; 0 if each was resampled by itself.
    """
    parameters = (*compare_parameters(first, second), *_optimal_exponent(first, second))
    axes = tuple(compare_axis(Frontier.of_chinchilla(first, a), Frontier.of_chinchilla(second, b)) for a, b in costs)
    gaps = (*_gaps_along(first, second, 0), *_gaps_along(first, second, 1))
    return Comparison(*names, pairs, parameters, gaps, axes, warnings=tuple(_warnings(axes)))


def compare_frontiers(
    names: tuple[str, str],
    fits: tuple[Fit | Allocation, Fit | Allocation],
    frontiers: Sequence[tuple[Frontier, Frontier]],
    pairs: int,
) -> Comparison:
    """Compares two laws of one input (power laws, or lines through optima) along it."""
    axes = tuple(compare_axis(a, b) for a, b in frontiers)
    return Comparison(*names, pairs, compare_parameters(*fits), (), axes, warnings=tuple(_warnings(axes)))


def compare_inputs(names: tuple[str, str], first: Fit, second: Fit, pairs: int) -> Comparison:
    """Compares two laws of the same inputs: their parameters, and what they predict along each input.

    Args:
      names: of the architectures.
      first, second: laws whose bootstraps drew the same pairs, or were drawn apart.
      pairs: how many pairs were drawn; 0 if each was resampled by itself.
    """
    gaps = [gap for axis in range(len(first.inputs)) for gap in _gaps_along(first, second, axis)]
    return Comparison(*names, pairs, compare_parameters(first, second), tuple(gaps), ())


def compare_settings(names: tuple[str, str], laws: Mapping[str, tuple[Fit, Fit]], pairs: int) -> Comparison:
    """Compares laws of best settings: their parameters, and what they say of runs that are alike in every input.

    Each is compared along each of its inputs, the others at their middle.

    Args:
      names: of the architectures.
      laws: of each setting, the first's and the second's, whose bootstraps drew the same pairs, or were drawn apart.
      pairs: how many pairs were drawn; 0 if each was resampled by itself.
    """
    parameters, settings, warnings = [], [], []
    for what, fits in laws.items():
        parameters += [dataclasses.replace(one, what=f"{what}_{one.what}") for one in compare_parameters(*fits)]
        ranges = _shared_ranges(*fits)
        if not ranges:
            warnings.append(f"{what}: the two have no sizes or numbers of tokens in common: settings are not compared")
        for axis, name in enumerate(fits[0].inputs if ranges else ()):
            settings += [
                _ratio(f"{what} at {name}", *fits, place, place[axis]) for place in _places_along(ranges, axis)
            ]
    return Comparison(*names, pairs, tuple(parameters), (), (), tuple(settings), tuple(warnings))


def _ratio(what: str, first: Fit, second: Fit, place: tuple[float, ...], at: float) -> Difference:
    """Returns what the second law predicts at a place over what the first does."""
    a, b = float(first.predict(*place)), float(second.predict(*place))
    interval = None
    if first.samples and second.samples:
        draws = _paired(*(fit.draws(*(np.array([v]) for v in place))[:, 0] for fit in (first, second)))
        assert draws is not None
        interval = first.options.interval(draws[1] / draws[0])
    return Difference(what, float(at), a, b, b / a, interval)


def _optimal_exponent(first: Fit, second: Fit) -> tuple[Difference, ...]:
    """Returns the difference of the exponent of N along the compute frontier."""
    (a, first_draws), (b, second_draws) = (fit.exponents()["N"] for fit in (first, second))
    draws = _paired(first_draws, second_draws)
    interval = first.options.interval(draws[1] - draws[0]) if draws else None
    return (Difference("optimal_exponent_N", None, a, b, b - a, interval),)


def _gaps_along(first: Fit, second: Fit, axis: int) -> list[Difference]:
    """Returns the loss gap at three sizes (or numbers of tokens) both measured, the other input at their middle."""
    ranges = _shared_ranges(first, second)
    found = []
    for place in _places_along(ranges, axis) if ranges else ():
        a, b = float(first.predict(*place)), float(second.predict(*place))
        draws = None
        if first.samples and second.samples:
            draws = _paired(*(fit.draws(*(np.array([v]) for v in place))[:, 0] for fit in (first, second)))
        interval = first.options.interval(draws[1] - draws[0]) if draws else None
        found.append(Difference(first.inputs[axis], place[axis], a, b, b - a, interval))
    return found


def _shared_ranges(first: Fit, second: Fit) -> list[tuple[float, float]]:
    """Returns the range of each input that both measured; empty where one of them has none."""
    ranges = []
    for columns in zip(first.values.T, second.values.T, strict=True):
        ranges.append((max(float(c.min()) for c in columns), min(float(c.max()) for c in columns)))
    return ranges if all(low <= high for low, high in ranges) else []


def _places_along(ranges: Sequence[tuple[float, float]], axis: int) -> list[tuple[float, ...]]:
    """Returns places along one input, the others at the middle of their ranges."""
    middle = [float(_spaced(low, high)[POINTS // 2]) for low, high in ranges]
    return [(*middle[:axis], float(x), *middle[axis + 1 :]) for x in _spaced(*ranges[axis])]


def _spaced(low: float, high: float) -> np.ndarray:
    """Returns three places, evenly apart in logarithms where these are above zero."""
    return np.geomspace(low, high, POINTS) if low > 0 else np.linspace(low, high, POINTS)


def loss_gap(first: Frontier, second: Frontier, x: float, within: bool) -> Difference:
    """Returns how much higher the second's loss is at x; `within` says whether both measured there.

    There is no interval where more resamples than its tails hold have no frontier, their loss not falling along both N
    and D.
    """
    a, b = float(first.loss(x)), float(second.loss(x))
    interval = None
    if first.samples is not None and second.samples is not None:
        draws = _paired(first.losses(np.array([x]))[:, 0], second.losses(np.array([x]))[:, 0])
        assert draws is not None
        gaps = draws[1] - draws[0]
        known = gaps[np.isfinite(gaps)]
        if len(known) >= first.options.confidence * len(gaps):
            interval = first.options.interval(known)
    return Difference(first.axis, float(x), a, b, b - a, interval, within)


def _common_losses(first: Frontier, second: Frontier) -> np.ndarray:
    """Returns losses that both reach within their measured ranges, high to low; as near as they come if none."""
    start = min(float(one.loss(one.low)) for one in (first, second))
    end = max(float(one.loss(one.high)) for one in (first, second))
    return np.geomspace(start, end, POINTS) if end < start else np.array([float(first.loss(first.high))])


def _bounded(log_end: float) -> float | None:
    return float(np.exp(log_end)) if abs(log_end) < 300 else None


def _multiplier(first: Frontier, second: Frontier, loss: float, within: bool) -> Difference:
    a, first_draws = first.needed(loss)
    b, second_draws = second.needed(loss)
    draws, interval = _paired(first_draws, second_draws), None
    ratio = b / a if np.isfinite(a) and np.isfinite(b) else float("nan")
    if draws:
        with np.errstate(all="ignore"):
            log_ratio = np.log(draws[1]) - np.log(draws[0])
        # Where neither ever reaches the loss there is no ratio; where one does not, it is without bound.
        log_ratio = np.nan_to_num(log_ratio[~np.isnan(log_ratio)], posinf=1e9, neginf=-1e9)
        if len(log_ratio) > 1:
            low, high = first.options.interval(log_ratio)
            interval = (_bounded(low), _bounded(high))
    return Difference(f"{first.axis} at loss {loss:.4g}", float(loss), a, b, ratio, interval, within)


def _paired(first: np.ndarray | None, second: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    if first is None or second is None:
        return None
    count = min(len(first), len(second))
    return first[:count], second[:count]


def _holds(interval: tuple[float | None, float | None], value: float) -> bool:
    low, high = interval
    return (low is None or low <= value) and (high is None or value <= high)


def _warnings(axes: Sequence[AxisComparison]) -> list[str]:
    warnings = []
    for axis in axes:
        if axis.gaps and not axis.gaps[0].within:
            warnings.append(f"{axis.axis}: the two measured ranges do not overlap; gaps are extrapolated")
        meeting = axis.crossover
        if meeting.x is not None and not meeting.measured:
            warnings.append(f"{axis.axis}: the crossover at {meeting.x:.3g} lies outside what both measured")
        if meeting.share is not None and meeting.x is not None and meeting.share < 0.95:
            warnings.append(
                f"{axis.axis}: only {meeting.share:.0%} of the resamples cross at all; the crossover is not established"
            )
    return warnings

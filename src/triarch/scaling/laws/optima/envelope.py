"""Chinchilla's first approach: the lower envelope of training curves (Hoffmann et al. 2022, section 3.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from triarch.errors import UserError
from triarch.scaling.figures.optimum_figures import envelope_panel
from triarch.scaling.figures.panels import smooth
from triarch.scaling.figures.style import Panel
from triarch.scaling.fitting.allocation import Allocation, allocate
from triarch.scaling.fitting.bootstrap import places
from triarch.scaling.fitting.options import DEFAULTS, FitOptions
from triarch.scaling.laws.checked import checked
from triarch.scaling.laws.costs import flops_of
from triarch.scaling.laws.law import FittedPart
from triarch.scaling.laws.optima.found_optima import FoundOptima
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import FLOPS, LOSS, PARAMS, RUN, TOKENS

# As in the paper: so many budgets, spread over log FLOPs.
BUDGETS = 1500
LEAST_SIZES = 3


@dataclasses.dataclass(frozen=True)
class Envelope(FoundOptima):
    """The lower envelope of training curves."""

    name = "envelope"
    text = "envelope of training curves: N = k_N C^a, D = k_D C^b"
    needs = (RUN, PARAMS, TOKENS, LOSS)
    takes = (FLOPS,)
    from_flops = True

    def fit(self, columns: Columns, options: FitOptions) -> Allocation:
        """Fits the law: see `fit_envelope`."""
        v = columns.values
        return fit_envelope(columns.text("run"), v["params"], v["tokens"], v["loss"], flops_of(columns), options)

    def panel(self, part: FittedPart, name: str) -> Panel:
        """Draws the curves and their envelope."""
        return envelope_panel(name, part.fit)


def fit_envelope(
    runs: Sequence[str],
    params: np.ndarray,
    tokens: np.ndarray,
    loss: np.ndarray,
    flops: np.ndarray,
    options: FitOptions = DEFAULTS,
    *,
    smoothing: float = 0.02,
    inputs: tuple[str, str] = ("N", "D"),
) -> Allocation:
    """Finds, at each of 1,500 budgets, the run with the least loss there; these give N = k_N C^a and D = k_D C^b.

    A budget won by the smallest or the largest size is left out: a smaller or larger one might have won. Intervals
    resample whole runs.

    Args:
      runs: [points], which run each logged point belongs to.
      params, tokens, loss, flops: float[points], each above zero; tokens and FLOPs so far.
      options: of the intervals; keys name, at each point, its run as no other run is, and draw runs of the same names.
      smoothing: half width of the moving average, as a share of a run's points; 0 for none.
      inputs: what N and D are called in messages.

    Raises:
      UserError: fewer than three sizes, a run of one point, FLOPs that do not grow along a run, or no budget won by a
        size in between.
    """
    values, loss = checked([params, tokens, flops], loss, (*inputs, "FLOPs"), fewest=4)
    sizes, curves = _curves(runs, values, loss, smoothing)
    if len(np.unique(sizes)) < LEAST_SIZES:
        raise UserError(f"{len(np.unique(sizes))} sizes: an envelope needs at least {LEAST_SIZES}")
    starts, ends = (np.array([curve[side, 0] for curve in curves]) for side in (0, -1))
    grid = np.linspace(starts.min(), ends.max(), BUDGETS)
    log_loss, log_tokens = (
        np.stack([np.interp(grid, c[:, 0], c[:, k], left=np.inf, right=np.inf) for c in curves]) for k in (1, 2)
    )
    everything = np.ones((1, len(sizes)), bool)
    point = _optima(everything, sizes, log_loss, log_tokens)
    won = np.isfinite(point["N"][0])
    if len(np.unique(point["N"][0][won])) < 2:
        raise UserError("fewer than two sizes in between win any budget: an envelope needs more sizes, or longer runs")
    warnings = _warnings(grid, sizes, won, log_loss, point)
    samples: dict[str, np.ndarray] = {}
    if count := options.bootstraps:
        drawn = np.random.default_rng(options.seed).integers(0, len(sizes), (count, len(sizes)))
        if options.keys is not None:
            drawn = _by_key(runs, options.keys)[drawn]
        chosen = np.zeros((count, len(sizes)), bool)
        chosen[np.arange(count)[:, None], drawn] = True
        samples = {name: column[:, won] for name, column in _optima(chosen, sizes, log_loss, log_tokens).items()}
    optima = {name: column[0, won] for name, column in point.items()}
    shown = tuple(
        (float(size), np.exp(curve[:, 0]), np.exp(curve[:, 1]), np.exp(curve[:, 1]))
        for size, curve in zip(sizes, curves, strict=True)
    )
    return allocate("envelope", np.exp(grid[won]), optima, samples, options, len(loss), warnings, shown)


def _by_key(runs: Sequence[str], keys: Sequence[str]) -> np.ndarray:
    """Returns the runs' numbers, int[runs], in the order of their keys."""
    own = {run: key for run, key in zip(runs, keys, strict=True)}
    for run, key in zip(runs, keys, strict=True):
        if own[run] != key:
            raise UserError(
                f"run {run!r} is paired both as {key!r} and as {own[run]!r}, expected one name for all points"
            )
    return np.argsort(places(list(own.values())))


def _curves(
    runs: Sequence[str], values: np.ndarray, loss: np.ndarray, smoothing: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns each run's size and curve: log FLOPs, smoothed log loss and log tokens, float64[points, 3]."""
    names = list(dict.fromkeys(runs))
    sizes, curves = [], []
    labels = np.asarray(runs)
    for name in names:
        rows = np.flatnonzero(labels == name)
        rows = rows[np.argsort(values[rows, 2], kind="stable")]
        if len(np.unique(values[rows, 0])) > 1:
            raise UserError(
                f"run {name!r} has {len(np.unique(values[rows, 0]))} sizes, expected one for all its points"
            )
        if len(rows) < 2 or np.any(np.diff(values[rows, 2]) <= 0):
            raise UserError(
                f"run {name!r}: {len(rows)} points whose FLOPs do not grow; expected a curve along training"
            )
        log_loss = np.log(loss[rows])
        sizes.append(values[rows[0], 0])
        smoothed = smooth(log_loss, smoothing) if smoothing and len(rows) > 4 else log_loss
        curves.append(np.column_stack([np.log(values[rows, 2]), smoothed, np.log(values[rows, 1])]))
    return np.array(sizes), curves


def _optima(
    chosen: np.ndarray, sizes: np.ndarray, log_loss: np.ndarray, log_tokens: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns N, D and loss of the best run at each budget for sets of runs, bool[sets, runs]; NaN at an edge."""
    sets, budgets = len(chosen), log_loss.shape[1]
    found = {name: np.full((sets, budgets), np.nan) for name in ("N", "D", "loss")}
    place = np.arange(budgets)
    for index, members in enumerate(chosen):
        own = np.flatnonzero(members)
        if len(np.unique(sizes[own])) < LEAST_SIZES:
            continue
        best = own[np.argmin(log_loss[own], axis=0)]
        inner = (sizes[best] > sizes[own].min()) & (sizes[best] < sizes[own].max())
        inner &= np.isfinite(log_loss[best, place])
        found["N"][index, inner] = sizes[best[inner]]
        found["D"][index, inner] = np.exp(log_tokens[best, place][inner])
        found["loss"][index, inner] = np.exp(log_loss[best, place][inner])
    return found


def _warnings(
    grid: np.ndarray, sizes: np.ndarray, won: np.ndarray, log_loss: np.ndarray, point: dict[str, np.ndarray]
) -> list[str]:
    warnings = []
    edge = np.isfinite(log_loss).any(axis=0) & ~won
    if edge.any():
        warnings.append(
            f"{edge.sum() / len(grid):.0%} of the budgets are won by the smallest or the largest size: the optimum is"
            " at the edge of the grid there; left out"
        )
    inner = len(np.unique(point["N"][0][won]))
    if inner < 4:
        warnings.append(f"only {inner} sizes in between win a budget: the exponents rest on that many steps")
    return warnings

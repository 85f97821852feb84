"""Chinchilla's second approach: a parabola through each budget's runs (Hoffmann et al. 2022, section 3.2)."""

from __future__ import annotations

import dataclasses

import numpy as np

from triarch.errors import UserError
from triarch.scaling.figures.optimum_figures import isoflop_panel
from triarch.scaling.figures.style import Panel
from triarch.scaling.fitting.allocation import Allocation, allocate
from triarch.scaling.fitting.bootstrap import places, student_factors
from triarch.scaling.fitting.options import DEFAULTS, FitOptions
from triarch.scaling.laws.checked import checked
from triarch.scaling.laws.costs import flops_of
from triarch.scaling.laws.law import FittedPart, setting
from triarch.scaling.laws.optima.found_optima import FoundOptima
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import FLOPS, LOSS, PARAMS, TOKENS

# Runs whose FLOPs lie closer together than this factor are of one budget.
BUDGET_GAP = 1.05
LEAST_SIZES = 4
# Optima that lie about their line this many times wider than the noise of runs explains are not on a line.
EXCESS_SCATTER = 2.0


@dataclasses.dataclass(frozen=True)
class Isoflop(FoundOptima):
    """Parabolas at equal FLOPs."""

    name = "isoflop"
    text = "parabolas at equal FLOPs: N = k_N C^a, D = k_D C^b"
    needs = (PARAMS, TOKENS, LOSS)
    takes = (FLOPS,)
    from_flops = True

    window: float | None = setting(
        None, "isoflop: fit only sizes within this factor of the best", kind=float, metavar="FACTOR"
    )

    def fit(self, columns: Columns, options: FitOptions) -> Allocation:
        """Fits the law: see `fit_isoflop`."""
        v = columns.values
        return fit_isoflop(v["params"], v["tokens"], v["loss"], flops_of(columns), options, window=self.window)

    def panel(self, part: FittedPart, name: str) -> Panel:
        """Draws each budget's runs with its parabola."""
        return isoflop_panel(name, part.fit)


@dataclasses.dataclass(frozen=True)
class _Budget:
    """One budget's parabola in log N through some rows, and what a residual does to it."""

    flops: float
    params: np.ndarray
    loss: np.ndarray
    fitted: np.ndarray
    projector: np.ndarray
    centre: float
    token_line: np.ndarray
    rows: np.ndarray

    def optimum(self, log_loss: np.ndarray) -> dict[str, np.ndarray]:
        """Returns N, D and loss at the vertex for log losses float64[draws, points]; NaN where there is none."""
        level, slope, curvature = self.projector @ log_loss.T
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            vertex = -slope / (2.0 * curvature)
            low, high = np.log(self.params.min()) - self.centre, np.log(self.params.max()) - self.centre
            inside = (curvature > 0) & (vertex >= low) & (vertex <= high)
            vertex = np.where(inside, vertex, np.nan)
            loss = np.exp(level + slope * vertex + curvature * vertex**2)
        params = np.exp(vertex + self.centre)
        return {"N": params, "D": np.exp(np.polyval(self.token_line, np.log(params))), "loss": loss}


def fit_isoflop(
    params: np.ndarray,
    tokens: np.ndarray,
    loss: np.ndarray,
    flops: np.ndarray,
    options: FitOptions = DEFAULTS,
    *,
    window: float | None = None,
    inputs: tuple[str, str] = ("N", "D"),
) -> Allocation:
    """Fits log loss as a parabola in log N at each budget; the vertices give N = k_N C^a and D = k_D C^b.

    Intervals are of a residual bootstrap: designs are fixed, and residuals, scaled up for the three parameters that
    each budget spends, are drawn from all budgets together, with Student's factor for how few they are.

    Args:
      params, tokens, loss, flops: float[points], each above zero; runs of nearly the same FLOPs are one budget.
      options: of the intervals; keys name each run, no two alike, and draw residuals of runs of the same names.
      window: fits only sizes within this factor of the one with the least loss; None for all.
      inputs: what N and D are called in messages.

    Raises:
      UserError: fewer than two budgets of four sizes, or fewer than two with a minimum inside their sizes, or two runs
        of one name.
    """
    order = None if options.keys is None else places(options.keys)
    values, loss = checked([params, tokens, flops], loss, (*inputs, "FLOPs"), fewest=2 * LEAST_SIZES)
    if window is not None and not window > 1.0:
        raise UserError(f"the window is {window:g}, expected a factor above 1, such as 8")
    warnings: list[str] = []
    budgets = _budgets(values, loss, window, warnings)
    kept = []
    for budget in budgets:
        found = budget.optimum(np.log(budget.loss)[None])
        edge = _edge(budget, bool(np.isfinite(found["N"][0])), inputs[0])
        if edge:
            warnings.append(edge)
        if np.isfinite(found["N"][0]):
            kept.append((budget, found))
    if len(kept) < 2:
        raise UserError(
            f"{len(kept)} of {len(budgets)} budgets have a minimum inside their sizes, the exponents need two: "
            + "; ".join(warnings[:3])
        )
    optima = {name: np.array([found[name][0] for _, found in kept]) for name in ("N", "D", "loss")}
    samples = _draw([budget for budget, _ in kept], options, order) if options.bootstraps else {}
    if samples:
        warnings += _scatter(kept, optima, samples)
    curves = tuple((one.flops, one.params, one.loss, np.exp(one.fitted)) for one, _ in kept)
    flops_kept = np.array([budget.flops for budget, _ in kept])
    points = int(sum(len(budget.loss) for budget, _ in kept))
    return allocate("isoflop", flops_kept, optima, samples, options, points, warnings, curves)


def group_budgets(flops: np.ndarray) -> np.ndarray:
    """Returns the number of each run's budget, int[points]: sorted FLOPs are cut where they jump by BUDGET_GAP."""
    order = np.argsort(flops, kind="stable")
    jumps = np.concatenate([[False], np.diff(np.log(flops[order])) > np.log(BUDGET_GAP)])
    groups = np.empty(len(flops), int)
    groups[order] = np.cumsum(jumps)
    return groups


def _budgets(values: np.ndarray, loss: np.ndarray, window: float | None, warnings: list[str]) -> list[_Budget]:
    groups = group_budgets(values[:, 2])
    budgets, small = [], 0
    for group in range(groups.max() + 1):
        rows = np.flatnonzero(groups == group)
        if window is not None:
            best = values[rows[np.argmin(loss[rows])], 0]
            rows = rows[np.abs(np.log(values[rows, 0] / best)) <= np.log(window) * (1 + 1e-9)]
        if len(np.unique(values[rows, 0])) < LEAST_SIZES:
            small += 1
            continue
        budgets.append(_parabola(values[rows], loss[rows], rows))
    if len(budgets) < 2:
        raise UserError(
            f"{len(budgets)} budgets with {LEAST_SIZES} sizes or more among {groups.max() + 1} values of FLOPs: IsoFLOP"
            " parabolas need two; runs of one budget must agree in FLOPs within 5 %"
        )
    if small:
        warnings.append(f"{small} budgets have fewer than {LEAST_SIZES} sizes: left out")
    return budgets


def _parabola(values: np.ndarray, loss: np.ndarray, rows: np.ndarray) -> _Budget:
    log_params = np.log(values[:, 0])
    centre = float(log_params.mean())
    z = log_params - centre
    design = np.column_stack([np.ones_like(z), z, z**2])
    projector = np.linalg.pinv(design)
    fitted = design @ (projector @ np.log(loss))
    token_line = np.polyfit(log_params, np.log(values[:, 1]), 1)
    flops = float(np.exp(np.log(values[:, 2]).mean()))
    return _Budget(flops, values[:, 0], loss, fitted, projector, centre, token_line, rows)


def _edge(budget: _Budget, found: bool, name: str) -> str:
    best = budget.params[np.argmin(budget.loss)]
    side = "smallest" if best == budget.params.min() else "largest" if best == budget.params.max() else ""
    if not found:
        where = f"; its lowest loss is at the {side} {name}" if side else ""
        return f"budget {budget.flops:.3g}: no minimum inside its sizes{where}: left out"
    if side:
        where = f"the lowest loss is at the {side} {name}: the optimum is at the edge of the grid"
        return f"budget {budget.flops:.3g}: {where}"
    return ""


def _draw(budgets: list[_Budget], options: FitOptions, order: np.ndarray | None) -> dict[str, np.ndarray]:
    """Returns optima of resampled residuals, float64[bootstraps, budgets] each; `order` has a place for each row."""
    rng = np.random.default_rng(options.seed)
    pool = np.concatenate([_residuals(budget) for budget in budgets])
    pool -= pool.mean()

    def noise(budget: _Budget) -> np.ndarray:
        if order is None:
            return rng.choice(pool, (options.bootstraps, len(budget.loss)))
        return np.stack([donated(order[row]) for row in budget.rows], axis=1)

    def donated(place: int) -> np.ndarray:
        # Whoever has a run of this name draws the same donors for it; one whose budget was left out is drawn again.
        own = np.random.default_rng([options.seed, place])
        found = by_place[own.integers(len(by_place), size=options.bootstraps)]
        return np.where(np.isnan(found), own.choice(pool, options.bootstraps), found)

    if order is not None:
        by_place = np.full(len(order), np.nan)
        by_place[order[np.concatenate([budget.rows for budget in budgets])]] = pool
    # Each budget spends three parameters; what is left says how wide errors are, more or less surely.
    wider = student_factors(len(pool) - 3 * len(budgets), options.bootstraps, options.seed)[:, None]
    drawn = [budget.optimum(budget.fitted + wider * noise(budget)) for budget in budgets]
    return {name: np.stack([one[name] for one in drawn], axis=1) for name in ("N", "D", "loss")}


def _residuals(budget: _Budget) -> np.ndarray:
    points = len(budget.loss)
    return (np.log(budget.loss) - budget.fitted) * np.sqrt(points / max(points - 3, 1))


def _scatter(kept: list, optima: dict[str, np.ndarray], samples: dict[str, np.ndarray]) -> list[str]:
    """Returns a warning where the optima lie off their line by more than the noise of runs explains."""
    if len(kept) < 4:
        return []
    log_flops = np.log([budget.flops for budget, _ in kept])
    log_params = np.log(optima["N"])
    residual = log_params - np.polyval(np.polyfit(log_flops, log_params, 1), log_flops)
    noise = np.nanstd(np.log(samples["N"]), axis=0)
    excess = float(np.sqrt(np.sum(residual**2) / (len(kept) - 2)) / np.sqrt(np.mean(noise**2)))
    if excess < EXCESS_SCATTER:
        return []
    return [
        f"the optima lie {excess:.1f} times wider about their line than the noise of runs explains: they are not on one"
        " line, or parabolas miss the minima (try a narrower window); intervals are too narrow"
    ]

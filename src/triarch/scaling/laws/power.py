"""The power law of the loss in one input, with an offset where data show one."""

from __future__ import annotations

import dataclasses

import numpy as np

from triarch.errors import UserError
from triarch.scaling.checks.frontier import Frontier
from triarch.scaling.checks.rivals import RivalForm
from triarch.scaling.figures.panels import law_panel
from triarch.scaling.figures.style import Panel
from triarch.scaling.fitting.cost import Cost
from triarch.scaling.fitting.estimate import estimate
from triarch.scaling.fitting.options import DEFAULTS, FitOptions
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.checked import OFFSET_AT_BOUND, check_varies, checked, doubts
from triarch.scaling.laws.law import FittedPart, setting
from triarch.scaling.laws.parametric import ParametricLaw
from triarch.scaling.laws.power_sum import PowerSum
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import LOSS, X


@dataclasses.dataclass(frozen=True)
class Power(ParametricLaw):
    """L(x) = A / x^alpha + E, for each input by itself."""

    name = "power"
    text = "L = A / x^alpha + E"
    needs = (X, LOSS)

    offset: str = setting(
        "auto", "E; auto sets the power law's to zero, with a warning, where data do not identify it (default: auto)",
        choices=("auto", "free", "zero"),
    )  # fmt: skip

    def split(self, columns: Columns) -> dict[str | None, Columns]:
        """Returns the columns of each input; one that is alone is called x in formulas."""
        inputs = columns.several["x"]
        return {
            name: dataclasses.replace(
                columns,
                values={**columns.values, "x": values},
                several={**columns.several, "x": {name if len(inputs) > 1 else "x": values}},
            )
            for name, values in inputs.items()
        }

    def form(self, columns: Columns) -> PowerSum:
        """Returns a power, with its offset unless that is zero."""
        return PowerSum(tuple(columns.all("x")), self.offset != "zero")

    def fit(self, columns: Columns, options: FitOptions) -> Fit:
        """Fits the law: see `fit_power`."""
        ((name, x),) = columns.all("x").items()
        return fit_power(x, columns.values["loss"], options, offset=self.offset, name=name)

    def num_parameters(self, columns: Columns) -> int:
        """Returns those that it has at least: the offset may turn out not to be identified."""
        return 2

    def candidates(self, columns: Columns) -> list[RivalForm]:
        """Returns the law in x with and without offset; where there are N and D instead, laws in these and in 6 N D."""
        v = columns.values
        if "x" in v:
            both = (("power with offset", True), ("pure power", False))
            return [RivalForm(label, PowerSum(("x",), offset), (v["x"],)) for label, offset in both]
        if not {"params", "tokens"} <= v.keys():
            return []
        n, d = v["params"], v["tokens"]
        flops = Cost().flops(n, d)
        return [
            RivalForm("power in N with offset", PowerSum(("N",)), (n,)),
            RivalForm("pure power in N", PowerSum(("N",), offset=False), (n,)),
            RivalForm("power in D with offset", PowerSum(("D",)), (d,)),
            RivalForm("power in C = 6ND with offset", PowerSum(("C",)), (flops,)),
            RivalForm("pure power in C = 6ND", PowerSum(("C",), offset=False), (flops,)),
        ]

    def frontiers(self, part: FittedPart) -> list[Frontier]:
        """Returns the law along its input."""
        assert part.x is not None
        return [Frontier.of_power(part.fit, part.x)]

    def panel(self, part: FittedPart, name: str) -> Panel:
        """Draws loss against the input."""
        return law_panel(name, self.title(part), part.fit, part.fit.values[:, 0], part.fit.target)


def fit_power(
    x: np.ndarray,
    loss: np.ndarray,
    options: FitOptions = DEFAULTS,
    *,
    offset: str = "auto",
    name: str = "x",
) -> Fit:
    """Fits L(x) = A x^-alpha + E, as RedLLM (arXiv 2510.26622) does with x = N or C.

    Args:
      x: float[points], parameters, tokens or FLOPs in any unit; A comes in the same.
      loss: float[points], above zero.
      options: how.
      offset: "free" fits E >= 0; "zero" fits the pure power law; "auto" fits E where the data identify it (at least
        four different x, and an E away from its bound 0) and otherwise falls back to the pure power law with a warning.
      name: what x is called in messages.

    Raises:
      UserError: fewer different x than parameters, or bad values.
    """
    if offset not in ("auto", "free", "zero"):
        raise UserError(f"offset is {offset!r}, expected auto, free or zero")
    values, loss = checked([x], loss, (name,), fewest=3 if offset == "free" else 2)
    check_varies(values, (name,))
    distinct = len(np.unique(values[:, 0]))
    free, pure = PowerSum((name,)), PowerSum((name,), offset=False)

    def fitted(form: PowerSum, *warnings: str) -> Fit:
        return estimate(form, values, loss, options, warnings=warnings, judge=doubts)

    if offset == "zero":
        return fitted(pure)
    if offset == "auto" and distinct < 4:
        reason = (
            f"the offset E is not identified: {distinct} different values of {name} leave nothing to check a law with"
            " three parameters by; fitted the pure power law (E = 0), whose exponent is smaller than one with an offset"
        )
        return fitted(pure, reason)
    warnings = [f"3 different values of {name} and 3 parameters: the law passes through every point"] * (distinct == 3)
    fit = fitted(free, *warnings)
    if offset == "auto" and fit.parameters["E"] < OFFSET_AT_BOUND * loss.min():
        reason = "the offset E is not identified: its best value is its bound 0; fitted the pure power law (E = 0)"
        return fitted(pure, reason)
    return fit

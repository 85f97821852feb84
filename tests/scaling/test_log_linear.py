"""Lines in logarithms against numpy, and a published exponent."""

import numpy as np
import pytest

from triarch.errors import UserError
from triarch.scaling.fitting.allocation import lines
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.log_linear import fit_log_linear

# Porian et al. 2024 (arXiv 2406.19146): compute-optimal sizes on RefinedWeb, tuned, as the authors published them.
FLOPS = 1.25e16 * 2.0 ** np.arange(12)
OPTIMA = [
    12535564.880093636, 16148596.71646504, 26050612.918046065, 31264443.49607125, 43659152.68584214, 66621093.10359842,
    92528427.7967515, 128023005.5416657, 171278110.28228754, 291948207.00195694, 373542884.88797927, 534703603.4192292,
]  # fmt: skip


def test_a_published_exponent_to_four_decimals():
    fit = fit_log_linear([FLOPS], OPTIMA, FitOptions(bootstraps=0), inputs=("C",), output="N")
    assert fit.parameters["exponent"] == pytest.approx(0.4970, abs=5e-5)
    assert fit.formula(4) == "0.1182 * C^0.497"


def test_several_inputs_are_numpys_least_squares():
    rng = np.random.default_rng(0)
    x, z = 10 ** rng.uniform(6, 9, 30), 10 ** rng.uniform(8, 11, 30)
    y = 1.8 * x**-0.7 * z**0.3 * np.exp(0.2 * rng.normal(size=30))
    fit = fit_log_linear([x, z], y, FitOptions(bootstraps=200), inputs=("N", "D"))
    design = np.column_stack([np.ones(30), np.log(x), np.log(z)])
    expected = np.linalg.lstsq(design, np.log(y), rcond=None)[0]
    assert np.log(fit.parameters["coefficient"]) == pytest.approx(expected[0], rel=1e-8)
    assert fit.parameters["exponent_N"] == pytest.approx(expected[1], rel=1e-8)
    assert fit.parameters["exponent_D"] == pytest.approx(expected[2], rel=1e-8)
    assert fit.objective == pytest.approx(0.5 * np.sum((design @ expected - np.log(y)) ** 2), rel=1e-8)
    error = np.sqrt(np.linalg.inv(design.T @ design)[1, 1] * np.sum(fit.residuals() ** 2) / 27)
    assert np.std(fit.samples["exponent_N"]) == pytest.approx(error, rel=0.3)


def test_weighted_lines_are_polyfits():
    rng = np.random.default_rng(1)
    x, y, weights = rng.normal(size=8), rng.normal(size=(3, 8)), rng.integers(0, 3, (3, 8)).astype(float)
    y[0, weights[0] == 0] = np.nan
    intercepts, slopes = lines(x[None], y, weights)
    for row in range(3):
        used = weights[row] > 0
        expected = np.polyfit(x[used], y[row, used], 1, w=np.sqrt(weights[row, used]))
        assert (slopes[row], intercepts[row]) == pytest.approx(tuple(expected))
    assert np.isnan(lines(np.ones((1, 3)), np.ones((1, 3)), np.ones((1, 3)))[1][0])


def test_one_value_and_too_few_points_are_refused():
    with pytest.raises(UserError, match="C is 1 in every row"):
        fit_log_linear([np.array([1.0, 1.0, 1.0]), np.array([1.0, 2, 3])], [1, 2, 3], inputs=("C", "D"))
    with pytest.raises(UserError, match="1 different points of C"):
        fit_log_linear([np.array([2.0])], [1.0], inputs=("C",))
    exact = fit_log_linear([np.array([1.0, 2.0])], [1.0, 2.0], FitOptions(bootstraps=50))
    assert exact.parameters["exponent"] == pytest.approx(1.0) and exact.intervals == {}
    assert any("passes through every point" in warning for warning in exact.warnings)

"""Schedules against their formulas written out with `math`."""

import math

import pytest

from triarch.errors import UserError
from triarch.training.optimizers.schedules import Constant, Cosine, OneMinusSqrt, Rsqrt, Trapezoid

STEPS = 1000
WARMUP = 100


def cosine(step):
    t = (step - WARMUP) / (STEPS - WARMUP)
    return 0.01 * (0.1 + 0.9 * (1 + math.cos(math.pi * t)) / 2)


def trapezoid(step):
    return 0.01 if step < 800 else 0.01 * (1 - 0.98 * (step - 800) / 200)


def one_minus_sqrt(step):
    return 0.01 * (0.5 + 0.5 * (1 - math.sqrt((step - WARMUP) / (STEPS - WARMUP))))


def cool_down(step):
    return 0.01 if step < 800 else 0.01 * (1 - math.sqrt((step - 800) / 200))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(0.01, WARMUP), lambda step: 0.01),
        (Cosine(0.01, WARMUP), cosine),
        (Trapezoid(0.01, WARMUP, decay_steps=200, final_fraction=0.02), trapezoid),
        (OneMinusSqrt(0.01, WARMUP, final_fraction=0.5), one_minus_sqrt),
        (OneMinusSqrt(0.01, WARMUP, decay_steps=200), cool_down),
    ],
)
def test_warmed_schedules_follow_their_formulas(schedule, expected):
    for step in (0, 1, 50, 99):
        assert float(schedule(step, STEPS)) == pytest.approx(0.01 * step / WARMUP, rel=1e-6)
    for step in (100, 101, 555, 799, 800, 900, 999, 1000):
        assert float(schedule(step, STEPS)) == pytest.approx(expected(step), rel=2e-6, abs=1e-9)
    assert schedule.peak_rate == 0.01


def test_rsqrt_is_t5s():
    schedule = Rsqrt()
    assert float(schedule(0, 5)) == pytest.approx(0.01)
    assert float(schedule(10_000, 5)) == pytest.approx(0.01)
    assert float(schedule(40_000, 5)) == pytest.approx(0.005)
    assert schedule.peak_rate == pytest.approx(0.01)
    warmed = Rsqrt(base=2.0, warmup_steps=400, linear_warmup=True)
    assert float(warmed(100, 5)) == pytest.approx(2.0 * 0.25 / 20)
    assert float(warmed(900, 5)) == pytest.approx(2.0 / 30)


def test_constant_needs_no_warm_up():
    assert float(Constant(0.5)(0, 10)) == 0.5


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        (Constant(0.0), "peak"),
        (Constant(0.1, warmup_steps=STEPS + 1), "warmup_steps"),
        (Cosine(0.1, final_fraction=1.5), "final_fraction"),
        (Trapezoid(0.1, warmup_steps=900, decay_steps=101), "decay_steps"),
        (OneMinusSqrt(0.1, decay_steps=0), "decay_steps"),
        (Rsqrt(warmup_steps=0), "warmup_steps"),
    ],
)
def test_values_out_of_range_are_named(schedule, field):
    with pytest.raises(UserError, match=f"{type(schedule).__name__}.{field} = "):
        schedule.validate(STEPS)

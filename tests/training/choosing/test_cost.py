"""The arithmetic of memory and time beside what the compiler said, in docs/plans.md."""

import importlib.util
import statistics
import sys
from pathlib import Path

import pytest

from triarch.training.choosing.cost import LOW


def benchmark(name):
    """Returns a program of benchmarks/ as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[3] / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Where its dataclasses look for their names.
    spec.loader.exec_module(module)
    return module


plan_model = benchmark("plan_model")


@pytest.mark.parametrize(
    ("models", "count"),
    [
        (("decllm/1b",), 5),
        pytest.param(("redllm",), 25, marks=pytest.mark.slow),
        pytest.param(("ettin_encoder/1b", "ettin_decoder/150m"), 20, marks=pytest.mark.slow),
        pytest.param(("t5_v1_1", "llama3"), 10, marks=pytest.mark.slow),
    ],
)
def test_memory_and_time_are_within_the_errors_stated(models, count):
    found = plan_model.estimated(plan_model.rows(*models))
    memory, time = plan_model.errors(found)
    assert len(memory) == count and min(memory) >= -LOW and max(memory) <= 0.45
    assert statistics.mean(map(abs, memory)) < 0.12 and statistics.mean(map(abs, time)) < 0.16
    assert max(map(abs, time)) < 0.3


@pytest.mark.slow
def test_steps_that_others_measured_took_about_as_long():
    """By the figures that MaxText publishes with its configs."""
    maxtext = benchmark("maxtext_steps")
    off = [maxtext.estimated_seconds(step) / maxtext.measured_seconds(step) - 1 for step in maxtext.STEPS]
    assert len(off) == 5 and max(map(abs, off)) < 0.15, off

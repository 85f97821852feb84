"""The arithmetic of memory and time beside what the compiler said, in docs/plans.md."""

import importlib.util
import statistics
import sys
from pathlib import Path

import pytest

from triarch.training.choosing.cost import LOW

_SPEC = importlib.util.spec_from_file_location("plan_model", Path(__file__).parents[3] / "benchmarks" / "plan_model.py")
plan_model = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = plan_model  # Where its dataclasses look for their names.
_SPEC.loader.exec_module(plan_model)


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

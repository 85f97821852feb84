"""Settings of all tests, in place before jax starts."""

import os

import pytest

# A test runs its functions once or twice: optimising their code takes several times as long as running it. Flags from
# outside stay: `make portable-test` limits the processor's vector width by one.
flags = os.environ.get("XLA_FLAGS", "")
if "xla_backend_optimization_level" not in flags:
    os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {flags}".strip()


@pytest.fixture
def few_starts(monkeypatch):
    """A fiftieth of the published grid: tests of what follows a fit need its minimum, not 4,500 ways to it."""
    from triarch.scaling.laws import power_sum

    grid = power_sum.hoffmann_grid()[::53]
    monkeypatch.setattr(power_sum, "hoffmann_grid", lambda: grid.copy())

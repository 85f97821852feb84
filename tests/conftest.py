"""Settings of all tests, in place before jax starts."""

import os

import pytest

# A test runs its functions once or twice: optimising their code takes several times as long as running it.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")


@pytest.fixture
def few_starts(monkeypatch):
    """A fiftieth of the published grid: tests of what follows a fit need its minimum, not 4,500 ways to it."""
    from triarch.scaling.laws import forms

    grid = forms.hoffmann_grid()[::53]
    monkeypatch.setattr(forms, "hoffmann_grid", lambda: grid.copy())

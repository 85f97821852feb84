"""Settings of all tests, in place before jax starts."""

import os

# A test runs its functions once or twice: optimising their code takes several times as long as running it.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

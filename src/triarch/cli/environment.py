"""Settings of the process that must be in place before jax is imported."""

from __future__ import annotations

import os


def configure() -> None:
    """Quietens libraries; values the user has set stay."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

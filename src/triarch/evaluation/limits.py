"""What every evaluation asks of its options."""

from __future__ import annotations

from typing import Any

from triarch.errors import UserError


def check_least(options: Any, **least: int) -> None:
    """Raises UserError, naming the flag, for an option that is less than `least` has it; None is no number."""
    for name, limit in least.items():
        value = getattr(options, name)
        if value is not None and value < limit:
            raise UserError(f"--{name}={value}: expected at least {limit}")

"""What parameters are, and the names of their dimensions. Imports nothing."""

from __future__ import annotations

from typing import Literal, get_args

# A matrix from inputs to outputs; a gain, bias or other list of numbers; a matrix whose rows or columns are looked up
# or stand for tokens, places or distances; a small matrix beside a kernel that is tuned in its place.
Kind = Literal["kernel", "vector", "table", "adapter"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Axes = tuple[str | None, ...]

# The leading axis of parameters of repeated layers, along which tensors of one layer each lie side by side.
LAYERS = "layers"

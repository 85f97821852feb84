"""Examples of a token store, and the features that an objective makes of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

Example = Mapping[str, np.ndarray]
Features = dict[str, np.ndarray]
# A pure function: what is random in it comes from the generator.
Transform = Callable[[Example, np.random.Generator], Features]


class Examples(Protocol):
    """Anything with examples at random access: a `SplitReader`, or a list in a test."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

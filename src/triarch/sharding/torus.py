"""Which mesh axes go along which axes of a torus of chips."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence


def places(sizes: Sequence[int], shape: Sequence[int]) -> tuple[tuple[int, ...], ...] | None:
    """Returns for each mesh axis the axes of the torus that it takes whole; None where it would have to split one.

    Args:
      sizes: of the mesh axes within a slice.
      shape: of the slice.
    """
    if not sizes:
        return ()
    size, *others = sizes
    for count in range(len(shape) + 1):
        for taken in itertools.combinations(range(len(shape)), count):
            if math.prod(shape[axis] for axis in taken) != size:
                continue
            left = [1 if axis in taken else extent for axis, extent in enumerate(shape)]
            rest = places(others, left)
            if rest is not None:
                return (taken, *rest)
    return None


def whole_sizes(shape: Sequence[int]) -> list[int]:
    """Returns the sizes of mesh axes that take whole axes of the torus, smallest first."""
    return sorted(set(_products(shape)))


def _products(shape: Sequence[int]) -> Iterator[int]:
    for count in range(len(shape) + 1):
        for taken in itertools.combinations(shape, count):
            yield math.prod(taken)

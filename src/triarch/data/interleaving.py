"""Which of several sources each position of a run's order comes from, in closed form."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Sequence


class Interleaving:
    """Deals positions 0, 1, 2, ... out to sources by weight, as evenly as can be, without drawing.

    Sources are the leaves of a binary tree; each node sends its n-th position to one of its halves so that of the first
    n the left half has had round(n * its share). Among any first n positions of a phase a source thus differs from its
    exact share by less than (1 + log2(sources)) / 2 + 1/2, and both how many it has had and which source comes next
    follow from n alone.
    """

    def __init__(self, phases: Sequence[tuple[int, Sequence[int]]]):
        """An interleaving by `phases`: (first position, a whole weight for each source), from position 0 on, ascending.

        A phase's weights must not sum to 0. A phase may have more sources than those before it, never fewer.
        """
        self._starts = [start for start, _ in phases]
        self._phases: list[_Phase] = []
        taken = [0] * len(phases[0][1])
        for (start, weights), following in itertools.zip_longest(phases, self._starts[1:]):
            taken += [0] * (len(weights) - len(taken))
            phase = _Phase(start, tuple(taken), (0, *itertools.accumulate(weights)))
            self._phases.append(phase)
            taken = phase.counts(following) if following is not None else taken

    def locate(self, position: int) -> tuple[int, int]:
        """Returns (source, how many positions before this one went to it)."""
        return self._phase(position).locate(position)

    def counts(self, position: int) -> list[int]:
        """Returns how many of the positions before `position` went to each source."""
        return self._phase(position).counts(position)

    def _phase(self, position: int) -> _Phase:
        return self._phases[bisect.bisect_right(self._starts, position) - 1]


@dataclasses.dataclass(frozen=True)
class _Phase:
    """Positions from `start` on; sources had `taken` before; `sums[k]` is the weight of the sources before k."""

    start: int
    taken: tuple[int, ...]
    sums: tuple[int, ...]

    def locate(self, position: int) -> tuple[int, int]:
        n, low, high = position - self.start, 0, len(self.taken)
        while high - low > 1:
            middle = (low + high) // 2
            left = self._left(n, low, middle, high)
            if self._left(n + 1, low, middle, high) > left:
                n, high = left, middle
            else:
                n, low = n - left, middle
        return low, self.taken[low] + n

    def counts(self, position: int) -> list[int]:
        return [taken + n for taken, n in zip(self.taken, self._dealt(position - self.start), strict=True)]

    def _dealt(self, total: int) -> list[int]:
        dealt = [0] * len(self.taken)
        nodes = [(total, 0, len(dealt))]
        while nodes:
            n, low, high = nodes.pop()
            if high - low == 1:
                dealt[low] = n
                continue
            middle = (low + high) // 2
            left = self._left(n, low, middle, high)
            nodes += [(left, low, middle), (n - left, middle, high)]
        return dealt

    def _left(self, n: int, low: int, middle: int, high: int) -> int:
        """Returns how many of the first n positions of sources low to high go to those before `middle`."""
        weight, total = self.sums[middle] - self.sums[low], self.sums[high] - self.sums[low]
        return (n * weight + total // 2) // total if total else 0

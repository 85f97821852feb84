"""Which store each example of a run comes from, and how it continues when the run resumes with a changed config."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from triarch.data.interleaving import Interleaving
from triarch.errors import UserError


@dataclasses.dataclass(frozen=True)
class SourceOrder:
    """The order of sources (stores) in a run, as far as it is decided, and where its last segment begins in it.

    A source keeps its number for good, and with it the permutations of its examples: a segment goes on in each source
    after the last example that was read, whatever batch size or weights it has.

    Attributes:
      step: first step of the segment.
      position: examples read before it.
      sources: what identifies each source read so far, in the order of first use; its index is its number.
      phases: (first position, a whole weight for each of the sources that there were then), ascending.
    """

    step: int
    position: int
    sources: tuple[str, ...]
    phases: tuple[tuple[int, tuple[int, ...]], ...]

    @classmethod
    def begin(cls, sources: Sequence[str], phases: Sequence[tuple[int, Sequence[int]]], batch_size: int) -> SourceOrder:
        """Returns the order of a run from its first step on: `phases` are (first step, a whole weight a source)."""
        return cls(0, 0, (), ())._with(sources, phases, batch_size)

    def then(
        self,
        step: int,
        batch_size: int,
        sources: Sequence[str],
        phases: Sequence[tuple[int, Sequence[int]]],
        next_batch_size: int,
        first_step: int | None = None,
    ) -> SourceOrder:
        """Returns the order of a run that reads in this one until `step`, in batches of `batch_size`, then otherwise.

        Args:
          step: the first one of the new segment.
          batch_size: until then.
          sources: of the new segment; each continues from its place, new ones begin.
          phases: (first step, a whole weight for each of them), see `mixture.whole_phases`.
          next_batch_size: from then on.
          first_step: what the new segment calls `step`; another run counts from 0.
        """
        position = self.position_of(step, batch_size)
        decided = tuple(phase for phase in self.phases if phase[0] < position)
        start = SourceOrder(step if first_step is None else first_step, position, self.sources, decided)
        return start._with(sources, phases, next_batch_size)

    def position_of(self, step: int, batch_size: int) -> int:
        """Returns how many examples are read before `step`, one of the segment, in batches of `batch_size`."""
        return self.position + (step - self.step) * batch_size

    def numbers(self, sources: Sequence[str]) -> list[int]:
        """Returns the numbers of `sources`.

        Raises:
          UserError: one of them is not there.
        """
        for source in sources:
            if source not in self.sources:
                raise UserError(f"the run's config.json does not know the store of fingerprint {source[:16]}...")
        return [self.sources.index(source) for source in sources]

    def interleaving(self) -> Interleaving:
        """Returns the source of every position."""
        return Interleaving(self.phases)

    def to_plain(self) -> dict[str, Any]:
        """Returns what JSON holds."""
        return dataclasses.asdict(self)

    @classmethod
    def from_plain(cls, fields: dict[str, Any], where: str) -> SourceOrder:
        """Returns the order that JSON holds.

        Raises:
          UserError: it is damaged; `where` it stands is named.
        """
        try:
            phases = tuple((int(start), tuple(map(int, weights))) for start, weights in fields["phases"])
            order = cls(int(fields["step"]), int(fields["position"]), tuple(map(str, fields["sources"])), phases)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{where}: damaged: {type(error).__name__}: {error}") from None
        starts = [start for start, _ in phases]
        widths = [len(weights) for _, weights in phases]
        fits = starts[:1] == [0] and starts == sorted(set(starts)) and widths == sorted(widths)
        weighted = all(min(weights, default=-1) >= 0 and sum(weights) > 0 for _, weights in phases)
        if not (fits and weighted and widths[-1] == len(order.sources) and min(order.step, order.position) >= 0):
            raise UserError(f"{where}: damaged: its phases are no order of its {len(order.sources)} sources")
        return order

    def _with(
        self, sources: Sequence[str], phases: Sequence[tuple[int, Sequence[int]]], batch_size: int
    ) -> SourceOrder:
        known = (*self.sources, *(source for source in sources if source not in self.sources))
        places = [known.index(source) for source in sources]
        decided = list(self.phases)
        for start, weights in phases:
            spread = [0] * len(known)
            for place, weight in zip(places, weights, strict=True):
                spread[place] = weight
            # A phase that goes on unchanged is one phase: its dealing does not begin anew.
            if not decided or decided[-1][1] != tuple(spread):
                decided.append((self.position_of(start, batch_size), tuple(spread)))
        return SourceOrder(self.step, self.position, known, tuple(decided))

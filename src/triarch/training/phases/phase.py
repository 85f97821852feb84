"""A phase of a run: what is other in it than in the run, how long it is, and how its batches grow."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, NamedTuple

from triarch.errors import UserError
from triarch.fields import Limits, Size, check
from triarch.models import Dropout, ModelConfig
from triarch.objectives.base import Objective
from triarch.training.data_config import DataConfig
from triarch.training.optimizers.optimizer import Optimizer

# Also a scope of gin and a column of tables.
_NAME = re.compile("[A-Za-z][A-Za-z0-9_]{0,39}")
_MOST_LEVELS = 1024
Tokens = Annotated[int, Limits(least=1)]


class Level(NamedTuple):
    """Consecutive steps of a phase in batches of one size.

    Attributes:
      batch_size: sequences an update.
      steps: updates.
    """

    batch_size: int
    steps: int


@dataclasses.dataclass(frozen=True)
class BatchWarmup:
    """Batches that grow from `start` to the phase's own size over its first tokens.

    As many updates are made at each size, so that tokens read at a size are proportional to it, as ModernBERT's and
    Ettin's code has it (arXiv 2507.11412), which grows by single sequences. Each size is compiled for once.

    Attributes:
      start: sequences of the first batches.
      tokens: read until batches have their full size.
      increment: by how many sequences they grow at a time; None: by `start`.
    """

    start: Size
    tokens: Tokens
    increment: Size | None = None

    def levels(self, batch_size: int, window: int) -> tuple[Level, ...]:
        """Returns the sizes below `batch_size` of examples of `window` tokens, and the updates of each.

        Raises:
          UserError: naming the field that is out of range.
        """
        check(self)
        if self.start >= batch_size:
            raise UserError(
                f"BatchWarmup.start = {self.start:,}: expected less than the phase's batches, {batch_size:,}"
            )
        sizes = range(self.start, batch_size, self.increment or self.start)
        if len(sizes) > _MOST_LEVELS:
            raise UserError(
                f"BatchWarmup: {len(sizes):,} sizes between {self.start:,} and {batch_size:,}, each to be compiled "
                f"for, are more than {_MOST_LEVELS:,}: set a larger increment"
            )
        steps = round(self.tokens / (window * sum(sizes)))
        if steps < 1:
            raise UserError(
                f"BatchWarmup.tokens = {self.tokens:,}: expected at least {window * sum(sizes):,}, a step of each of "
                f"{len(sizes)} sizes; or set a larger increment"
            )
        return tuple(Level(size, steps) for size in sizes)


@dataclasses.dataclass(frozen=True)
class Phase:
    """Steps of a run under settings of their own; those that are None are the run's.

    A phase begins with the parameters of the one before. Its schedule counts the phase's own steps; while batches grow,
    it counts tokens, in full batches. Steps of a mixture's phases are counted from the phase's beginning too. Data is
    read on where the run was in it, if a phase before read of the same stores.

    Attributes:
      name: of the phase: letters, digits and "_".
      tokens: to read in it, over both sides of a model; the steps follow from it.
      steps: updates to make, in place of `tokens`.
      model: the network, which may differ in its rotary bases and scaling, windows of attention, and caps and factors
        of attention and logits: in nothing that parameters depend on.
      objective: how tokens become a loss.
      data: window and stores.
      optimizer: of the run's class, with the phase's schedule.
      batch_size: sequences an update.
      batch_warmup: how batches grow at the phase's beginning.
      microbatches: parts into which a batch is cut; smaller batches are cut into fewer.
      dropout: what training leaves out of activations.
      keep_optimizer: begin with the state of the optimizer at the end of the phase before, not with a fresh one.
    """

    name: str
    tokens: Tokens | None = None
    steps: Size | None = None
    model: ModelConfig | None = None
    objective: Objective | None = None
    data: DataConfig | None = None
    optimizer: Optimizer | None = None
    batch_size: Size | None = None
    batch_warmup: BatchWarmup | None = None
    microbatches: Size | None = None
    dropout: Dropout | None = None
    keep_optimizer: bool = True

    def levels(self, batch_size: int, window: int) -> tuple[Level, ...]:
        """Returns the phase's batch sizes in order, and the updates of each.

        Args:
          batch_size: sequences of the run's batches, where the phase has none of its own.
          window: tokens of the run's examples, likewise.

        Raises:
          UserError: naming the field that is out of range.
        """
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise UserError(f"Phase.name = {self.name!r}: expected letters, digits and '_', a letter first")
        try:
            return self._levels(batch_size, window)
        except UserError as error:
            raise UserError(f"{error} (of phase {self.name!r})") from None

    def _levels(self, batch_size: int, window: int) -> tuple[Level, ...]:
        if (self.tokens is None) == (self.steps is None):
            raise UserError(f"Phase: expected one of tokens ({self.tokens!r}) and steps ({self.steps!r})")
        check(self)
        batch_size = self.batch_size or batch_size
        window = window if self.data is None else self.data.window
        warmup = () if self.batch_warmup is None else self.batch_warmup.levels(batch_size, window)
        growing, tokens = sum(level.steps for level in warmup), read(warmup, window)
        if self.tokens is None:
            assert self.steps is not None
            left = self.steps - growing
            has, needs = f"Phase.steps = {self.steps:,}", f"{growing:,} steps"
        else:
            left = round((self.tokens - tokens) / (batch_size * window))
            has, needs = f"Phase.tokens = {self.tokens:,}", f"{tokens:,} tokens"
        if left < 1:
            what = f"its batches grow for {needs}" if warmup else f"a step reads {batch_size * window:,}"
            raise UserError(f"{has}: {what}: expected more")
        return (*warmup, Level(batch_size, left))


def read(levels: tuple[Level, ...], window: int) -> int:
    """Returns the tokens that `levels` read, of examples of `window`."""
    return sum(level.batch_size * level.steps for level in levels) * window

"""What a study is: families and sizes trained under the same settings, and the text they are compared on."""

from __future__ import annotations

import dataclasses
from typing import Literal

from triarch.errors import UserError, nearest
from triarch.sweeps.budgets import FixedTokens, IsoFlop, TokensPerParameter
from triarch.sweeps.shapes import Ladder


@dataclasses.dataclass(frozen=True)
class Corpus:
    """One body of text; a study trains on its first in-domain corpus and evaluates on all.

    Attributes:
      task: name of the SeqIO task.
      role: "in_domain" or "out_of_domain".
      store: folder of a token store that exists; None lets the study prepare one.
    """

    task: str
    role: Literal["in_domain", "out_of_domain"] = "in_domain"
    store: str | None = None


@dataclasses.dataclass(frozen=True)
class Study:
    """A grid of runs: every family at every size, budget, learning rate, batch size and seed, each from its family's
    recipe and the study's settings.

    Attributes:
      title: heading of the report.
      question: what the study asks, in a sentence.
      families: folders under gin_configs/models.
      labels: what the report calls each family, in the same order.
      sizes: files in each of those folders, or a ladder of sizes between them.
      settings: gin file laid over every run: batch, steps, vocabulary size, mesh.
      corpora: text to train and evaluate on.
      budget: how long each run trains; None leaves it to recipe and settings.
      learning_rates: peaks of the schedule to cross with the rest; empty leaves it to recipe and settings.
      batch_sizes: sequences an update, likewise.
      seeds: likewise.
      warmup_fraction: of a run's steps, spent warming up; None leaves warm-up to recipe and settings.
      vocabulary: "sentencepiece" (trained on the first corpus), "bytes", or a model file.
      vocabulary_size: pieces to train.
      window: tokens an example.
      max_windows: held-out windows of each corpus to score.
      pseudo_positions: tokens of each window at which an encoder's pseudo-likelihood is taken.
      exports: whether each run's parameters are exported.
      parallel: runs at a time on this machine; each gets its share of the cores.
      attempts: times that a run which fails is tried before a sweep gives it up.
      modules: Python modules that the runs need, which are imported only where --module names them too.
    """

    title: str
    question: str
    families: tuple[str, ...]
    labels: tuple[str, ...]
    sizes: tuple[str, ...] | Ladder
    settings: str
    corpora: tuple[Corpus, ...]
    budget: IsoFlop | TokensPerParameter | FixedTokens | None = None
    learning_rates: tuple[float, ...] = ()
    batch_sizes: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    warmup_fraction: float | None = None
    vocabulary: str = "sentencepiece"
    vocabulary_size: int = 32_768
    window: int = 2048
    max_windows: int = 256
    pseudo_positions: int = 8
    exports: bool = True
    parallel: int = 1
    attempts: int = 2
    modules: tuple[str, ...] = ()

    def validate(self) -> None:
        """Raises UserError, naming the field, for a study that cannot be run."""
        for field in ("families", "sizes", "corpora"):
            self._check_names(field, empty=False)
        for field in ("learning_rates", "batch_sizes", "seeds"):
            self._check_names(field, empty=True)
        for part in (self.sizes, self.budget):
            if part is not None and not isinstance(part, tuple):
                part.validate()
        if len(self.labels) != len(self.families):
            raise UserError(f"Study.labels has {len(self.labels)} names for {len(self.families)} families")
        for corpus in self.corpora:
            roles = ("in_domain", "out_of_domain")
            if corpus.role not in roles:
                raise UserError(f"Corpus.role = {corpus.role!r}{nearest(corpus.role, roles)}")
        if self.corpora[0].role != "in_domain":
            raise UserError("Study.corpora: the first corpus is trained on, so its role must be 'in_domain'")
        for field in ("parallel", "attempts"):
            if getattr(self, field) < 1:
                raise UserError(f"Study.{field} = {getattr(self, field)!r}: expected a whole number from 1 on")
        if self.warmup_fraction is not None and not 0 <= self.warmup_fraction < 1:
            raise UserError(f"Study.warmup_fraction = {self.warmup_fraction!r}: expected 0 up to but not 1")

    def _check_names(self, field: str, empty: bool) -> None:
        values = getattr(self, field)
        if not isinstance(values, tuple):
            return
        if not values and not empty:
            raise UserError(f"Study.{field} is empty")
        if len(set(values)) < len(values):
            raise UserError(f"Study.{field} = {values!r} names something twice")

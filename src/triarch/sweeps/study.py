"""What a study is: families and sizes trained under the same settings, and the text they are compared on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from triarch.errors import UserError, nearest


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
class Run:
    """One cell of a study's grid.

    Attributes:
      family: of models, a folder under gin_configs/models.
      size: a file in that folder.
      gin_files: what the run is made of, in order.
    """

    family: str
    size: str
    gin_files: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the run and its folder are called."""
        return f"{self.family}_{self.size}"


@dataclasses.dataclass(frozen=True)
class Study:
    """A grid of runs: every family at every size, each from its family's recipe and the study's settings.

    Attributes:
      title: heading of the report.
      question: what the study asks, in a sentence.
      families: folders under gin_configs/models.
      labels: what the report calls each family, in the same order.
      sizes: files in each of those folders.
      settings: gin file laid over every run: batch, steps, vocabulary size, mesh.
      corpora: text to train and evaluate on.
      vocabulary: "sentencepiece" (trained on the first corpus), "bytes", or a model file.
      vocabulary_size: pieces to train.
      window: tokens an example.
      max_windows: held-out windows of each corpus to score.
      pseudo_positions: tokens of each window at which an encoder's pseudo-likelihood is taken.
      parallel: runs at a time on this machine; each gets its share of the cores.
    """

    title: str
    question: str
    families: tuple[str, ...]
    labels: tuple[str, ...]
    sizes: tuple[str, ...]
    settings: str
    corpora: tuple[Corpus, ...]
    vocabulary: str = "sentencepiece"
    vocabulary_size: int = 32_768
    window: int = 2048
    max_windows: int = 256
    pseudo_positions: int = 8
    parallel: int = 1

    def validate(self) -> None:
        """Raises UserError, naming the field, for a study that cannot be run."""
        for field in ("families", "sizes", "corpora"):
            if not getattr(self, field):
                raise UserError(f"Study.{field} is empty")
            if len(set(getattr(self, field))) < len(getattr(self, field)):
                raise UserError(f"Study.{field} = {getattr(self, field)!r} names something twice")
        if len(self.labels) != len(self.families):
            raise UserError(f"Study.labels has {len(self.labels)} names for {len(self.families)} families")
        for corpus in self.corpora:
            roles = ("in_domain", "out_of_domain")
            if corpus.role not in roles:
                raise UserError(f"Corpus.role = {corpus.role!r}{nearest(corpus.role, roles)}")
        if self.corpora[0].role != "in_domain":
            raise UserError("Study.corpora: the first corpus is trained on, so its role must be 'in_domain'")
        if self.parallel < 1:
            raise UserError(f"Study.parallel = {self.parallel!r}: expected a whole number from 1 on")

    def runs(self, recipe: Callable[[str, str], str]) -> tuple[Run, ...]:
        """Returns the grid, size by size.

        Args:
          recipe: the gin file of the published recipe for a family and size.
        """
        return tuple(
            Run(family, size, (recipe(family, size), f"models/{family}/{size}.gin", self.settings))
            for size in self.sizes
            for family in self.families
        )

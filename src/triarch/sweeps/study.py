"""What a study is: families and sizes trained under the same settings, and the text they are compared on."""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePath
from typing import Literal

from triarch.errors import UserError, nearest
from triarch.sweeps.budgets import FixedTokens, IsoFlop, TokensPerParameter
from triarch.sweeps.shapes import Ladder
from triarch.sweeps.sizes import Size

VALIDATION, TEST = "validation", "test"


@dataclasses.dataclass(frozen=True)
class Corpus:
    """One body of text; a study trains on its first corpus and evaluates on all.

    Attributes:
      task: name of the SeqIO task that the study prepares a store of.
      role: "in_domain" or "out_of_domain".
      store: folder of a token store that exists, or of several, SOURCE or SOURCE/DOMAIN, which are all evaluated on.
      name: what tables and figures call it; None for the task, or the name of the store or of the first file.
      files: text to prepare a store of, in place of a task: files, glob patterns or folders.
      documents: what a document of a .txt file is: "file", "line" or "paragraph".
      text_field: field or column of other files that holds the document.
      hold_out: documents that go to a split "test" beside "validation": patterns of their file or id, as `triarch
        prepare --hold_out` takes them.
      validation_fraction: of the documents that are not held out by name; 1 where the corpus is evaluated on only.
      splits: to evaluate on, a table's column each; None for "validation", and "test" where documents are held out.
    """

    task: str | None = None
    role: Literal["in_domain", "out_of_domain"] = "in_domain"
    store: str | None = None
    name: str | None = None
    files: tuple[str, ...] = ()
    documents: str = "file"
    text_field: str = "text"
    hold_out: tuple[str, ...] = ()
    validation_fraction: float = 0.05
    splits: tuple[str, ...] | None = None

    @property
    def title(self) -> str:
        """What the corpus is called."""
        if given := self.name or self.task:
            return given
        first = self.store or (self.files[0] if self.files else "")
        return re.sub(r"[^\w.+-]+", "_", PurePath(first).name.partition(".")[0]).strip("_") or "text"

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """(name, split) of each of its texts to evaluate on."""
        splits = self.splits or (VALIDATION,) + (TEST,) * bool(self.hold_out)
        return tuple((self.title if split == splits[0] else f"{self.title}_{split}", split) for split in splits)

    def validate(self) -> None:
        """Raises UserError, naming the field, for a corpus that cannot be."""
        roles = ("in_domain", "out_of_domain")
        if self.role not in roles:
            raise UserError(f"Corpus.role = {self.role!r}{nearest(self.role, roles)}")
        if not (self.task or self.store or self.files):
            raise UserError("a Corpus says where its text is by Corpus.store, Corpus.files or Corpus.task")
        if self.files and (self.store or self.task):
            other = "store" if self.store else "task"
            raise UserError(f"Corpus.files = {self.files!r}: not beside Corpus.{other}, which has text of its own")
        if self.store and self.hold_out:
            raise UserError(
                f"Corpus.hold_out = {self.hold_out!r}: the store {self.store} is prepared already; hold documents out "
                "with `triarch prepare --hold_out`, and name the split in Corpus.splits"
            )
        if not 0 <= self.validation_fraction <= 1:
            raise UserError(f"Corpus.validation_fraction = {self.validation_fraction!r}: expected a number from 0 to 1")
        if not re.fullmatch(r"[\w.+-]+", self.title):
            raise UserError(f"Corpus.name = {self.title!r}: expected letters, digits and . _ + -")
        if self.splits is not None and (not self.splits or len(set(self.splits)) < len(self.splits)):
            raise UserError(f"Corpus.splits = {self.splits!r}: expected one split or more, each once")


@dataclasses.dataclass(frozen=True)
class Study:
    """A grid of runs: every family at every size, budget, learning rate, batch size and seed, each from its family's
    recipe and the study's settings.

    Attributes:
      title: heading of the report.
      question: what the study asks, in a sentence.
      families: folders under gin_configs/models.
      labels: what the report calls each family, in the same order.
      sizes: files in each of those folders, or in such folders beside the study, or `Size`s with a shape, steps, batch
        or rates of their own; or a ladder of sizes between them.
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
      max_windows: held-out windows of each corpus to score, drawn from its whole split.
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
    sizes: tuple[str | Size, ...] | Ladder
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
        parts = self.sizes if isinstance(self.sizes, tuple) else (self.sizes,)
        for part in (*parts, self.budget, *self.corpora):
            if part is not None and not isinstance(part, str):
                part.validate()
        if isinstance(self.sizes, tuple):
            self._check_sizes()
        if len(self.labels) != len(self.families):
            raise UserError(f"Study.labels has {len(self.labels)} names for {len(self.families)} families")
        names = [name for corpus in self.corpora for name, _ in corpus.texts]
        if double := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"Study.corpora: two texts are called {double!r}: give each a Corpus.name of its own")
        if self.corpora[0].role != "in_domain":
            raise UserError("Study.corpora: the first corpus is trained on, so its role must be 'in_domain'")
        for field in ("vocabulary_size", "window", "max_windows", "pseudo_positions", "parallel", "attempts"):
            if getattr(self, field) < 1:
                raise UserError(f"Study.{field} = {getattr(self, field)!r}: expected a whole number from 1 on")
        if self.warmup_fraction is not None and not 0 <= self.warmup_fraction < 1:
            raise UserError(f"Study.warmup_fraction = {self.warmup_fraction!r}: expected 0 up to but not 1")

    def _check_sizes(self) -> None:
        if isinstance(self.sizes, Ladder):
            return
        names = [size if isinstance(size, str) else size.name for size in self.sizes]
        if len(set(names)) < len(names):
            raise UserError(f"Study.sizes = {tuple(names)!r} names something twice")
        for size in self.sizes:
            if isinstance(size, Size) and size.steps is not None and self.budget is not None:
                raise UserError(
                    f"Size.steps = {size.steps} of size {size.name!r}: Study.budget says already how long runs are"
                )

    def _check_names(self, field: str, empty: bool) -> None:
        values = getattr(self, field)
        if not isinstance(values, tuple):
            return
        if not values and not empty:
            raise UserError(f"Study.{field} is empty")
        if len(set(values)) < len(values):
            raise UserError(f"Study.{field} = {values!r} names something twice")

"""Knowledge distillation: a network learns what a teacher gives each next token (arXiv 1503.02531), as T5Gemma did."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from triarch import schema
from triarch.data.features import Features, Transform
from triarch.errors import UserError
from triarch.fields import Limits, Positive, check
from triarch.objectives.base import PLAIN, LossOptions, Objective, SpecialTokens
from triarch.objectives.token_objective import BoundTokens, TokenObjective
from triarch.schema import Anything, MapOf

if TYPE_CHECKING:  # Features are made without jax.
    import jax

    from triarch.models import ModelConfig, Transformer
    from triarch.models.layers.parts import Convention
    from triarch.objectives.distillation.teacher import TeacherHead
    from triarch.objectives.sums import Sums

_RUN = "config.json"
# Before the names of features that the teacher reads, where it is of another architecture.
_TEACHER = "teacher_"


@dataclasses.dataclass(frozen=True)
class Distill(TokenObjective):
    """Learns a teacher's distribution of each target, and the target itself.

    A target's loss is weight * T^2 * KL(teacher || student), both distributions taken at temperature T, and
    (1 - weight) * cross-entropy. The teacher reads the same tokens: one that is a decoder alone reads as one text what
    an encoder-decoder reads as inputs and targets. It is not trained, and no checkpoint holds it.

    Attributes:
      objective: what is read and what is predicted.
      teacher: run, export or import, of the same vocabulary.
      temperature: T; above 1 both distributions are flatter.
      weight: of the teacher's distribution, the rest being that of the targets; 1 leaves them out.
    """

    objective: Objective
    teacher: str
    temperature: Positive = 1.0
    weight: Annotated[float, Limits(above=0, most=1)] = 1.0

    name = "distill"
    measures = ("loss", "accuracy", "teacher_kl")

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What this is made of, as a mixture has it."""
        return (self.objective,)

    @property
    def layouts(self) -> tuple[str, ...]:
        """Layouts of stores whose examples it takes."""
        return self.objective.layouts

    @property
    def pair_lengths(self) -> Any:
        """How long both sides of a store's pairs are; only where the objective says so."""
        return self.inner.pair_lengths  # type: ignore[attr-defined]

    @property
    def inner(self) -> TokenObjective:
        """The objective, which predicts tokens.

        Raises:
          UserError: it does not, or a field is out of range.
        """
        if not isinstance(self.objective, TokenObjective) or isinstance(self.objective, Distill):
            raise UserError(f"Distill.objective: objective {self.objective.name} predicts no tokens by itself")
        check(self)
        return self.objective

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the tokens each side reads."""
        return self.inner.lengths(architecture, window)

    def num_scored(self, architecture: str, window: int) -> int:
        """Returns how many tokens of a window carry loss, at most."""
        return self.inner.num_scored(architecture, window)

    def transform(self, architecture: str, special: SpecialTokens, vocab_size: int, window: int) -> Transform:
        """Returns the function from an example to features, without the teacher's."""
        return self.inner.transform(architecture, special, vocab_size, window)

    def bind(
        self, architecture: str, special: SpecialTokens, vocab_size: int, window: int, options: LossOptions = PLAIN
    ) -> BoundDistill:
        """Returns the objective for one architecture, vocabulary and window."""
        return BoundDistill(self, architecture, special, vocab_size, window, options)


@dataclasses.dataclass(frozen=True)
class BoundDistill(BoundTokens):
    """`Distill` for one architecture, vocabulary and window; the teacher is its head."""

    @functools.cached_property
    def make_head(self) -> TeacherHead:
        """Makes the teacher, whose parameters training leaves as they are."""
        from triarch.objectives.distillation.teacher import TeacherHead

        return TeacherHead(self._teacher)

    @functools.cached_property
    def features(self) -> Transform:
        """The numpy function from an example to features, with the teacher's where it reads others."""
        inner = self.objective.transform(self.architecture, self.special, self.vocab_size, self.window)
        if self._reads_alike:
            return inner
        other = self.objective.transform(self._teacher.architecture, self.special, self.vocab_size, self.window)

        def features(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
            # Both draw the same.
            again = copy.deepcopy(rng)
            made = inner(example, rng)
            return made | {f"{_TEACHER}{name}": values for name, values in other(example, again).items()}

        return features

    def flops(self, model: ModelConfig, convention: Convention) -> float:
        """Returns the FLOPs of one example: the model's, and the teacher's forward pass."""
        lengths = self.objective.lengths(self._teacher.architecture, self.window)
        read = lengths.get("encoder", 0), lengths.get("decoder", 0)
        forward = self._teacher.flops(*read, convention, self.num_scored) / (3 if convention == "train" else 1)
        return super().flops(model, convention) + forward

    def loss(
        self, model: Transformer, batch: Mapping[str, jax.Array], key: jax.Array | None = None
    ) -> tuple[jax.Array, Sums]:
        """Returns the summed loss, and what it is made of."""
        from triarch.objectives.distillation.teacher import distillation_loss

        own = {name: values for name, values in batch.items() if not name.startswith(_TEACHER)}
        theirs = own
        if not self._reads_alike:
            theirs = {n.removeprefix(_TEACHER): values for n, values in batch.items() if n.startswith(_TEACHER)}
        given = self._distill
        return distillation_loss(
            model, own, theirs, given.temperature, given.weight, self.options, self.num_scored, key
        )

    @property
    def _distill(self) -> Distill:
        assert isinstance(self.objective, Distill)
        return self.objective

    @property
    def _reads_alike(self) -> bool:
        return self._teacher.architecture == self.architecture

    @functools.cached_property
    def _teacher(self) -> ModelConfig:
        return teacher_network(self._distill)


def teacher_network(distill: Distill) -> ModelConfig:
    """Returns the network of a teacher.

    Raises:
      UserError: there is no run or export.
    """
    from triarch.interchange.manifest import is_export, model_config, read_manifest

    folder = Path(distill.teacher)
    if is_export(folder):
        return read_manifest(folder).config
    try:
        fields = schema.read(folder / _RUN, MapOf(Anything()))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"Distill.teacher = {distill.teacher!r}: no run or export is there") from None
    if not isinstance(fields.get("model"), Mapping):
        raise UserError(f"Distill.teacher = {distill.teacher!r}: {_RUN} is not the config of a run")
    return model_config(fields["model"], str(folder / _RUN))

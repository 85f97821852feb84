"""A size of a study that says more of itself than the name of a published one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from triarch.errors import UserError
from triarch.models import ModelConfig

_SHAPE = ("d_model", "d_ff", "num_heads", "num_kv_heads", "head_dim")


@dataclasses.dataclass(frozen=True)
class Size:
    """One size of every family, with a shape, steps, batch and learning rates of its own as far as it sets them.

    Attributes:
      name: what the size is called; without `like` also the model file, as for a size given by its name alone.
      like: size whose model file the shape below is laid over.
      d_model: width of the network, as in `ModelConfig`; None leaves it, as the four below, to that file.
      d_ff: width of the feed-forward.
      num_heads: of attention.
      num_kv_heads: of keys and values.
      head_dim: width of a head.
      num_layers: of each side that the family has, encoder and decoder; None leaves them to that file.
      steps: updates of a run; not beside a `Study.budget`, which says how long runs are.
      batch_size: sequences an update, in place of `Study.batch_sizes`.
      learning_rates: peaks of the schedule, in place of `Study.learning_rates`.
    """

    name: str
    like: str | None = None
    d_model: int | None = None
    d_ff: int | None = None
    num_heads: int | None = None
    num_kv_heads: int | None = None
    head_dim: int | None = None
    num_layers: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    learning_rates: tuple[float, ...] = ()

    def validate(self) -> None:
        """Raises UserError, naming the field, for a value out of range."""
        for field in (*_SHAPE, "num_layers", "steps", "batch_size"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise UserError(f"Size.{field} = {value!r} of size {self.name!r}: expected a whole number from 1 on")
        for rate in self.learning_rates:
            if not 0 < rate < math.inf:
                raise UserError(f"Size.learning_rates of size {self.name!r}: {rate!r} is no number above zero")

    @property
    def file(self) -> str:
        """The size whose model file it has the shape of where it sets none."""
        return self.like or self.name

    def bindings(self, model: ModelConfig) -> Mapping[str, int]:
        """Returns what it changes about the shape of a family's model, by the fields' names."""
        wanted = {field: getattr(self, field) for field in _SHAPE}
        for side in ("num_encoder_layers", "num_decoder_layers"):
            wanted[side] = self.num_layers if getattr(model, side) else None
        return {field: value for field, value in wanted.items() if value not in (None, getattr(model, field))}

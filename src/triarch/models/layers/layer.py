"""One layer of a stack as a value: its parts, what they have and what they cost."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from triarch import lazy
from triarch.models.attention.attention_parts import CrossAttention, num_relative_biases
from triarch.models.layers.parts import FeedForwardPart, MixerPart, Part, Reading, Site
from triarch.models.shape import Shape

if TYPE_CHECKING:
    from triarch.models.layers import block
else:
    block = lazy.module("triarch.models.layers.block")


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    """One layer: its parts, and what may differ from layer to layer of one stack.

    Attributes:
      mixer: how tokens see each other.
      feed_forward: what becomes of each token by itself; None: the mixer's output is the layer's.
      cross: attention to the encoder's output, between the two; None without one.
      mixer_norm: whether a norm precedes the mixer (ModernBERT's first layer has none).
    """

    mixer: MixerPart
    feed_forward: FeedForwardPart | None
    cross: CrossAttention | None = None
    mixer_norm: bool = True

    def build(self, site: Site) -> block.Block:
        """Returns the module, with fresh parameters."""
        return block.Block(self, site)

    def num_params(self, shape: Shape) -> int:
        """Returns the number of parameters."""
        sublayers = len(self._parts)
        before = (sublayers - (not self.mixer_norm)) * (shape.norm_position != "output")
        after = sublayers * (shape.norm_position in ("pre_and_post", "output"))
        own = (before + after) * shape.num_norm_params(shape.d_model) + num_relative_biases(shape, per_layer=True)
        return own + sum(part.num_params(shape) for part in self._parts)

    def num_params_active(self, shape: Shape) -> int:
        """Returns how many of the parameters one token makes use of."""
        if self.feed_forward is None:
            return self.num_params(shape)
        unused = self.feed_forward.num_params(shape) - self.feed_forward.num_params_active(shape)
        return self.num_params(shape) - unused

    def flops(self, shape: Shape, reading: Reading) -> float:
        """Returns operations of a forward pass over one sequence."""
        return sum(part.flops(shape, reading) for part in self._parts)

    def check(self, shape: Shape) -> None:
        """Raises UserError, naming the field, for values that make no layer."""
        for part in self._parts:
            part.check(shape)

    @property
    def _parts(self) -> tuple[Part, ...]:
        return tuple(part for part in (self.mixer, self.cross, self.feed_forward) if part is not None)

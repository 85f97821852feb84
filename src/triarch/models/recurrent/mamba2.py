"""Mamba-2 as a part of a layer (arXiv 2405.21060): a state for each head, whose decay is a function of the token."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from triarch import lazy
from triarch.models.checks import check_annotations, check_at_most, check_positive, require
from triarch.models.layers.parts import Reading, Site
from triarch.models.recurrent.counts import decayed_flops
from triarch.models.shape import Shape

if TYPE_CHECKING:
    from triarch.models.recurrent import mamba2_mixer
else:
    mamba2_mixer = lazy.module("triarch.models.recurrent.mamba2_mixer")


@dataclasses.dataclass(frozen=True)
class Mamba2:
    """A selective state space: S_t = exp(d_t A) S_(t-1) + d_t x_t B_t^T, y_t = S_t C_t + D x_t, for each head.

    Inputs x, B and C pass a short convolution and SiLU; d_t is softplus of a projection, A a number below 0 for each
    head. The output is gated by SiLU of another projection, and normed.

    Attributes:
      state_dim: numbers of the state for each channel of a head (N of the paper).
      num_heads: None means that of the config; published sizes have as many as make their width twice `d_model`.
      head_dim: channels of a head; None means that of the config.
      num_groups: of heads that share B and C, and of channels that are normed together.
      conv_width: tokens that the convolution sees.
      conv_bias: whether it has a bias.
      chunk_size: tokens that are computed at once, by matrix products; it changes nothing but the time.
      least_step: of d_t, which softplus makes positive.
      greatest_step: of d_t; None: there is none.
    """

    state_dim: int = 128
    num_heads: int | None = None
    head_dim: int | None = None
    num_groups: int = 1
    conv_width: int = 4
    conv_bias: bool = True
    chunk_size: int = 256
    least_step: float = 0.0
    greatest_step: float | None = None

    name: ClassVar[str] = "mamba2"
    one_way: ClassVar[bool] = True
    rope: ClassVar[None] = None

    def build(self, site: Site) -> mamba2_mixer.Mamba2Mixer:
        return mamba2_mixer.Mamba2Mixer(site, self)

    def num_params(self, shape: Shape) -> int:
        heads, width = self.heads(shape), self.width(shape)
        convolved = width + 2 * self.num_groups * self.state_dim
        convolution = convolved * (self.conv_width + self.conv_bias)
        return self._num_weights(shape) + convolution + 3 * heads + width

    def flops(self, shape: Shape, reading: Reading) -> float:
        length, heads = reading.length, self.heads(shape)
        sizes = heads, self.num_groups, self.width(shape) // heads, self.state_dim, self.chunk_size
        products = decayed_flops(length, *sizes, seen=reading.convention == "train")
        return 2 * length * self._num_weights(shape) + products

    def check(self, shape: Shape) -> None:
        check_annotations(self)
        check_positive(self, ("state_dim", "num_heads", "head_dim", "num_groups", "conv_width", "chunk_size"))
        check_at_most(self, {"state_dim": 2**16, "num_heads": 2**14, "head_dim": 2**16, "conv_width": 2**10})
        heads = self.heads(shape)
        require(self, "num_groups", heads % self.num_groups == 0, f"must divide the {heads} heads")
        require(self, "least_step", self.least_step >= 0, "must not be negative")
        above = self.greatest_step is None or self.greatest_step > self.least_step
        require(self, "greatest_step", above, f"must be above least_step = {self.least_step}")

    def heads(self, shape: Shape) -> int:
        """Returns the number of heads."""
        return shape.num_heads if self.num_heads is None else self.num_heads

    def width(self, shape: Shape) -> int:
        """Returns the channels of all heads."""
        return self.heads(shape) * (shape.head_dim if self.head_dim is None else self.head_dim)

    def _num_weights(self, shape: Shape) -> int:
        """Returns the entries of the projections."""
        inputs = 2 * self.width(shape) + 2 * self.num_groups * self.state_dim + self.heads(shape)
        return shape.d_model * (inputs + self.width(shape))

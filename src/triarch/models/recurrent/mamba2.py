"""Mamba-2 as a part of a layer (arXiv 2405.21060): a state for each head, whose decay is a function of the token."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, ClassVar

from triarch import lazy
from triarch.fields import Limits, NotNegative, Positive, Size, check, require
from triarch.models.layers.parts import Reading, Site
from triarch.models.recurrent.counts import decayed_flops
from triarch.models.shape import Heads, HeadWidth, Shape

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

    state_dim: Annotated[int, Limits(least=1, most=2**16)] = 128
    num_heads: Heads | None = None
    head_dim: HeadWidth | None = None
    num_groups: Heads = 1
    conv_width: Annotated[int, Limits(least=1, most=2**10)] = 4
    conv_bias: bool = True
    chunk_size: Size = 256
    least_step: NotNegative = 0.0
    greatest_step: Positive | None = None

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
        check(self)
        heads = self.heads(shape)
        require(self, "num_groups", heads % self.num_groups == 0, f"must divide the {heads} heads")
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

"""Retention as a part of a layer (arXiv 2307.08621): a state for each head, which decays at a rate of its own."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

from triarch import lazy
from triarch.fields import Positive, Size, check, require
from triarch.models.attention.rope import Rope
from triarch.models.layers.parts import Reading, Site
from triarch.models.recurrent.counts import decayed_flops
from triarch.models.shape import HeadWidth, Shape

if TYPE_CHECKING:
    from triarch.models.recurrent import retention_mixer
else:
    retention_mixer = lazy.module("triarch.models.recurrent.retention_mixer")


@dataclasses.dataclass(frozen=True)
class Retention:
    """RetNet's mixer: S_t = g S_(t-1) + v_t k_t^T, y_t = S_t q_t for each head of the config.

    Queries and keys are rotated as in RoPE. Each head's output is normed by itself (RMSNorm without gain) and gated by
    SiLU of a projection. Head h of H keeps g = 1 - 2^(-5 - h) of its state with each token.

    Attributes:
      value_dim: width of a head's values; None means twice `head_dim`.
      rope_base: of the rotation.
      chunk_size: tokens that are computed at once, by matrix products; it changes nothing but the time.
      norm_eps: of the norm of a head's output, whose scale depends on how much a head has read.
    """

    value_dim: HeadWidth | None = None
    rope_base: Positive = 10_000.0
    chunk_size: Size = 256
    norm_eps: Positive = 1e-6

    name: ClassVar[str] = "retention"
    one_way: ClassVar[bool] = True

    @property
    def rope(self) -> Rope:
        return Rope(self.rope_base)

    def build(self, site: Site) -> retention_mixer.RetentionMixer:
        return retention_mixer.RetentionMixer(site, self)

    def num_params(self, shape: Shape) -> int:
        return shape.d_model * (2 * shape.heads_width + 3 * self.values_width(shape))

    def flops(self, shape: Shape, reading: Reading) -> float:
        heads, values = shape.num_heads, self.values_width(shape) // shape.num_heads
        seen = reading.convention == "train"
        products = decayed_flops(reading.length, heads, heads, values, shape.head_dim, self.chunk_size, seen)
        return 2 * reading.length * self.num_params(shape) + products

    def check(self, shape: Shape) -> None:
        check(self)
        require(shape, "head_dim", shape.head_dim % 2 == 0, "must be even: Retention rotates pairs")

    def values_width(self, shape: Shape) -> int:
        """Returns the width of all heads' values."""
        return shape.num_heads * (2 * shape.head_dim if self.value_dim is None else self.value_dim)

    def log_decays(self, shape: Shape) -> list[float]:
        """Returns the logarithm of what each head keeps of its state with a token."""
        return [math.log1p(-(2.0 ** (-5 - head))) for head in range(shape.num_heads)]

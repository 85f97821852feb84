"""The usual feed-forward layer as a part: what it is, has and costs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from triarch import lazy
from triarch.models.layers.parts import Reading, Site
from triarch.models.shape import Shape

if TYPE_CHECKING:
    from triarch.models.layers import feed_forward
else:
    feed_forward = lazy.module("triarch.models.layers.feed_forward")


@dataclasses.dataclass(frozen=True)
class Dense:
    """One feed-forward layer for all tokens: act(x W_up) W_down, or act(x W_gate) * (x W_up) W_down if gated."""

    def build(self, site: Site) -> feed_forward.FeedForward:
        return feed_forward.FeedForward(site)

    def num_params(self, shape: Shape) -> int:
        biases = (2 if shape.gated_mlp else 1) * shape.d_ff + shape.d_model
        return num_weights(shape, shape.d_ff) + biases * shape.mlp_bias

    def num_params_active(self, shape: Shape) -> int:
        return self.num_params(shape)

    def flops(self, shape: Shape, reading: Reading) -> float:
        return 2 * reading.length * num_weights(shape, shape.d_ff)

    def check(self, shape: Shape) -> None:
        """Every width makes one."""


def num_weights(shape: Shape, d_ff: int) -> int:
    """Returns the entries of the matrices of a feed-forward layer."""
    return (3 if shape.gated_mlp else 2) * shape.d_model * d_ff

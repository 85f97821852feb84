"""RWKV-4 as parts of a layer (arXiv 2305.13048): averages whose weights fade, and a layer that looks a token back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from triarch import lazy
from triarch.models.layers.parts import Reading, Site
from triarch.models.shape import Shape

if TYPE_CHECKING:
    from triarch.models.recurrent import rwkv_layers
else:
    rwkv_layers = lazy.module("triarch.models.recurrent.rwkv_layers")


@dataclasses.dataclass(frozen=True)
class RwkvTimeMix:
    """RWKV's mixer: in each channel the average of values by exp(key), which fades with distance, gated.

    Keys, values and gates are projections of a mixture of each token with the one before it. There are as many channels
    as the config's heads have together; how they are split into heads does not matter.
    """

    name: ClassVar[str] = "time_mix"
    one_way: ClassVar[bool] = True
    rope: ClassVar[None] = None

    def build(self, site: Site) -> rwkv_layers.TimeMixer:
        return rwkv_layers.TimeMixer(site)

    def num_params(self, shape: Shape) -> int:
        return self._num_weights(shape) + 3 * shape.d_model + 2 * shape.heads_width

    def flops(self, shape: Shape, reading: Reading) -> float:
        return 2 * reading.length * self._num_weights(shape)

    def check(self, shape: Shape) -> None:
        """Every width makes one."""

    def _num_weights(self, shape: Shape) -> int:
        return 4 * shape.d_model * shape.heads_width


@dataclasses.dataclass(frozen=True)
class RwkvChannelMix:
    """RWKV's feed-forward layer, of width `d_ff`: relu(x W_key)^2 W_value, gated, x mixed with the token before it."""

    def build(self, site: Site) -> rwkv_layers.ChannelMixer:
        return rwkv_layers.ChannelMixer(site)

    def num_params(self, shape: Shape) -> int:
        return self._num_weights(shape) + 2 * shape.d_model

    def num_params_active(self, shape: Shape) -> int:
        return self.num_params(shape)

    def flops(self, shape: Shape, reading: Reading) -> float:
        return 2 * reading.length * self._num_weights(shape)

    def check(self, shape: Shape) -> None:
        """Every width makes one."""

    def _num_weights(self, shape: Shape) -> int:
        return shape.d_model * (2 * shape.d_ff + shape.d_model)

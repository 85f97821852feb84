"""A mixer that only looks back, twice: an encoder's tokens see what stands before and after them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from triarch import lazy
from triarch.models.attention.rope import Rope
from triarch.models.layers.parts import MixerPart, Reading, Site
from triarch.models.shape import Shape

if TYPE_CHECKING:
    from triarch.models.recurrent import both_directions_mixer
else:
    both_directions_mixer = lazy.module("triarch.models.recurrent.both_directions_mixer")


@dataclasses.dataclass(frozen=True)
class BothDirections:
    """Two mixers with parameters of their own, one of which reads each text backwards; their outputs are summed.

    Attributes:
      mixer: what each of the two is.
    """

    mixer: MixerPart

    one_way: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return self.mixer.name

    @property
    def rope(self) -> Rope | None:
        return self.mixer.rope

    def build(self, site: Site) -> both_directions_mixer.BothDirectionsMixer:
        return both_directions_mixer.BothDirectionsMixer(site, self)

    def num_params(self, shape: Shape) -> int:
        return 2 * self.mixer.num_params(shape)

    def flops(self, shape: Shape, reading: Reading) -> float:
        return 2 * self.mixer.flops(shape, dataclasses.replace(reading, causal=True))

    def check(self, shape: Shape) -> None:
        self.mixer.check(shape)

"""Sizes between published ones: shapes that hit a target and look like their neighbours."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

from triarch.errors import UserError, nearest
from triarch.models import ModelConfig

MEASURES = ("params_non_embedding", "params", "flops_train", "flops_paper")
Measure = Callable[[ModelConfig], float]
# How much nearer a target must be to make up for a shape that departs from its neighbours' as far.
_EXACTNESS = 4.0


@dataclasses.dataclass(frozen=True)
class Ladder:
    """Sizes of every family at the same targets, by a rule.

    The shape for a target lies on the line, in logarithms of the measure, between the two published shapes around it
    (beyond the ends, on the line through the nearest two): that gives d_model, d_ff / d_model, heads / d_model and
    the layers of each side as real numbers. They become whole ones so: d_model is a multiple of head_dim, heads are
    whole groups of query heads, sides that are equally deep in the published shapes stay so, and where their last layer
    is global under a sliding window it stays so. Of the roundings up and down that one is taken which is nearest to
    the line once d_ff, in multiples of `d_ff_multiple`, has been set to bring the measure as near to the target as it
    comes.

    Attributes:
      targets: one for each size.
      between: published sizes, at least two, of every family of the study.
      measure: what the targets count: "params_non_embedding", "params", or the FLOPs of a sequence, "flops_train" or
        "flops_paper".
      d_ff_multiple: of what d_ff is a multiple; 128 suits the lanes of an accelerator.
    """

    targets: tuple[float, ...]
    between: tuple[str, ...]
    measure: Literal["params_non_embedding", "params", "flops_train", "flops_paper"] = "params_non_embedding"
    d_ff_multiple: int = 128

    def validate(self) -> None:
        """Raises UserError, naming the field, for a value out of range."""
        if not self.targets or not all(0 < target < math.inf for target in self.targets):
            raise UserError(f"Ladder.targets = {self.targets!r}: expected numbers above zero")
        if len({self.name(target) for target in self.targets}) < len(self.targets):
            raise UserError(f"Ladder.targets = {self.targets!r}: two are the same to three digits")
        if len(set(self.between)) < 2:
            raise UserError(f"Ladder.between = {self.between!r}: expected at least two published sizes")
        if self.measure not in MEASURES:
            raise UserError(f"Ladder.measure = {self.measure!r}{nearest(self.measure, MEASURES)}")
        if self.d_ff_multiple < 1:
            raise UserError(f"Ladder.d_ff_multiple = {self.d_ff_multiple!r}: expected a whole number from 1 on")

    def name(self, target: float) -> str:
        """What a size is called: its target to three digits, such as "120k"; "120kf" if it counts FLOPs."""
        mark = "f" if self.measure.startswith("flops") else ""
        return _short(target) + mark

    def shape(self, target: float, published: Sequence[ModelConfig], measure: Measure) -> ModelConfig:
        """Returns the shape for one target; the width `d_model`, `d_ff`, heads and layers are its own.

        Args:
          target: of the measure.
          published: shapes to interpolate between, which share one head_dim.
          measure: of a shape; increasing in all its dimensions.

        Raises:
          UserError: the published shapes differ in head_dim or measure alike, or no shape comes near.
        """
        published = sorted(published, key=measure)
        if len({shape.head_dim for shape in published}) > 1:
            raise UserError(
                f"Ladder.between = {self.between!r}: their head_dim differs "
                f"({', '.join(str(shape.head_dim) for shape in published)}); choose sizes that share one"
            )
        low, high = _around(target, published, measure)
        line = _Line(low, high, _place(target, measure(low), measure(high)))
        candidates = [
            _with_d_ff(line.rounded(*dims), target, measure, self.d_ff_multiple)
            for dims in itertools.product(line.widths(), line.depths())
        ]

        def cost(shape: ModelConfig) -> float:
            return line.distance(shape) + _EXACTNESS * abs(math.log(measure(shape) / target))

        best = min(candidates, key=cost)
        if abs(math.log(measure(best) / target)) > math.log(2):
            raise UserError(
                f"Ladder: no shape of head_dim {best.head_dim} and d_ff in multiples of {self.d_ff_multiple} comes "
                f"near {target:.4g} {self.measure}; the nearest has {measure(best):.4g}"
            )
        return best


@dataclasses.dataclass(frozen=True)
class _Line:
    """The line through two shapes, and the place on it: 0 at `low`, 1 at `high`."""

    low: ModelConfig
    high: ModelConfig
    place: float

    def at(self, read: Callable[[ModelConfig], float]) -> float:
        """Returns a positive quantity at the place, interpolated in logarithms; 0 where both have none."""
        first, second = read(self.low), read(self.high)
        return first ** (1 - self.place) * second**self.place if first and second else 0.0

    def widths(self) -> list[int]:
        """Returns multiples of head_dim around the width."""
        heads = self.at(lambda shape: shape.d_model) / self.low.head_dim
        around = range(math.floor(heads) - 1, math.ceil(heads) + 2)
        return [count * self.low.head_dim for count in around if count >= 1]

    def depths(self) -> list[tuple[int, int]]:
        """Returns (encoder, decoder) layers around the depths."""
        encoders, decoders = self._counts(lambda s: s.num_encoder_layers), self._counts(lambda s: s.num_decoder_layers)
        pairs = list(itertools.product(encoders, decoders))
        equal = all(shape.num_encoder_layers == shape.num_decoder_layers for shape in (self.low, self.high))
        return [pair for pair in pairs if pair[0] == pair[1]] if equal else pairs

    def rounded(self, d_model: int, depths: tuple[int, int]) -> ModelConfig:
        """Returns a shape of whole dimensions."""
        group = self.low.num_heads // self.low.kv_heads
        heads = max(1, round(d_model * self.at(lambda s: s.num_heads / s.d_model) / group)) * group
        kv_heads = None if self.low.num_kv_heads is None else heads // group
        return dataclasses.replace(
            self.low,
            d_model=d_model,
            num_heads=heads,
            num_kv_heads=kv_heads,
            num_encoder_layers=depths[0],
            num_decoder_layers=depths[1],
        )

    def distance(self, shape: ModelConfig) -> float:
        """Returns how far a shape is from the line: logarithms of width, depth and d_ff / d_model, summed."""
        reads = (
            lambda s: s.d_model,
            lambda s: s.num_encoder_layers + s.num_decoder_layers,
            lambda s: s.d_ff / s.d_model,
        )
        return sum(abs(math.log(read(shape) / self.at(read))) for read in reads)

    def _counts(self, read: Callable[[ModelConfig], int]) -> list[int]:
        layers = self.at(read)
        if not layers:
            return [0]
        period = self.low.global_every
        ends_global = self.low.sliding_window is not None and all(
            (read(shape) - 1) % period == self.low.first_global for shape in (self.low, self.high)
        )
        start, step = (self.low.first_global + 1, period) if ends_global else (1, 1)
        below = math.floor((layers - start) / step)
        return [start + step * count for count in range(below - 1, below + 3) if count >= 0]


def _with_d_ff(shape: ModelConfig, target: float, measure: Measure, multiple: int) -> ModelConfig:
    """Returns the shape with the d_ff that brings the measure, which is linear in it, nearest to the target."""
    one, two = (measure(dataclasses.replace(shape, d_ff=multiple * count)) for count in (1, 2))
    count = max(1, round(1 + (target - one) / (two - one)))
    return dataclasses.replace(shape, d_ff=multiple * count)


def _around(target: float, published: Sequence[ModelConfig], measure: Measure) -> tuple[ModelConfig, ModelConfig]:
    measures = [measure(shape) for shape in published]
    if len(set(measures)) < len(measures):
        raise UserError("Ladder.between: two of the published shapes are of one size")
    index = next((i for i, value in enumerate(measures[1:-1], start=1) if target < value), len(published) - 1)
    return published[index - 1], published[index]


def _place(target: float, low: float, high: float) -> float:
    return math.log(target / low) / math.log(high / low)


def _short(value: float) -> str:
    for scale, letter in ((1e15, "p"), (1e12, "t"), (1e9, "b"), (1e6, "m"), (1e3, "k"), (1.0, "")):
        # 999,999 rounds to 1m.
        if float(f"{value:.3g}") >= scale:
            return f"{float(f'{value:.3g}') / scale:g}{letter}"
    return f"{value:.3g}"

"""Batches padded to fewer shapes where to compute padding costs less than to compile another program."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from triarch.decoding.prompts import num_places
from triarch.decoding.score_batches import ScoreBatch
from triarch.models import ModelConfig

# Operations that are made in the time that a program takes to compile: 3 s of a CPU core, 10 s beside an accelerator.
_COMPILATION = {"cpu": 2e11}
_COMPILATION_ELSEWHERE = 1e15
# More shapes than these are not compared with each other.
_MOST_SHAPES = 64
# What is padded in front: contexts of which the last column is read.
_LEFT = ("decoder_input_tokens", "decoder_segment_ids", "decoder_causal_attention")

Shape = tuple[tuple[str, tuple[int, ...]], ...]


@dataclasses.dataclass
class _Kind:
    """Batches that are to have one shape."""

    is_shared: bool
    shape: Shape
    numbers: list[int]


def of_fewer_shapes(batches: Sequence[ScoreBatch], config: ModelConfig, platform: str) -> list[ScoreBatch]:
    """Returns the batches in their order, some of them padded; their scores stay as they are.

    Shapes are joined two by two, each time those whose common shape costs least, as long as that is less than to
    compile one program more.

    Args:
      batches: any.
      config: of the model.
      platform: "cpu", "gpu" or "tpu".
    """
    kinds: dict[tuple[bool, Shape], _Kind] = {}
    for number, batch in enumerate(batches):
        shape = _shape(batch)
        kinds.setdefault((batch.is_shared, shape), _Kind(batch.is_shared, shape, [])).numbers.append(number)
    found = list(kinds.values())
    spare = _COMPILATION.get(platform, _COMPILATION_ELSEWHERE)
    while 1 < len(found) <= _MOST_SHAPES:
        pairs = [(_extra(one, other, config), one, other) for one, other in itertools.combinations(found, 2)]
        extra, one, other = min(pairs, key=lambda pair: pair[0])
        if extra > spare:
            break
        joined = _Kind(one.is_shared, _joined(one.shape, other.shape), [*one.numbers, *other.numbers])
        found = [kind for kind in found if kind is not one and kind is not other] + [joined]
    padded = list(batches)
    for kind in found:
        for number in kind.numbers:
            padded[number] = _padded(batches[number], dict(kind.shape))
    return padded


def _shape(batch: ScoreBatch) -> Shape:
    return tuple(sorted((name, feature.shape) for name, feature in batch.features.items()))


def _joined(one: Shape, other: Shape) -> Shape:
    return tuple((name, tuple(map(max, mine, theirs))) for (name, mine), (_, theirs) in zip(one, other, strict=True))


def _extra(one: _Kind, other: _Kind, config: ModelConfig) -> float:
    """Returns the operations that a common shape costs more; infinite where there can be none."""
    if one.is_shared != other.is_shared or [name for name, _ in one.shape] != [name for name, _ in other.shape]:
        return float("inf")
    joined = _joined(one.shape, other.shape)
    places = num_places(config)
    if places is not None and max(_columns(dict(joined), side) for side in ("encoder", "decoder")) > places:
        return float("inf")
    own = sum(len(kind.numbers) * _operations(kind.shape, config) for kind in (one, other))
    return (len(one.numbers) + len(other.numbers)) * _operations(joined, config) - own


def _columns(shape: dict[str, tuple[int, ...]], side: str) -> int:
    further = shape["continuation_tokens"][1] if side == "decoder" and "continuation_tokens" in shape else 0
    return shape.get(f"{side}_input_tokens", (0, 0))[1] + further


def _operations(shape: Shape, config: ModelConfig) -> float:
    """Returns about how many operations a batch of a shape takes: products with weights, and logits."""
    table = config.vocab_size * config.d_model
    body = max(config.num_params_active() - table * (1 if config.tied_embeddings else 2), 1)
    sizes = dict(shape)
    names = ("encoder_input_tokens", "decoder_input_tokens", "continuation_tokens")
    tokens = sum(int(np.prod(sizes[name])) for name in names if name in sizes)
    return 2.0 * (tokens * body + sizes["scored_rows"][0] * table)


def _padded(batch: ScoreBatch, shape: dict[str, tuple[int, ...]]) -> ScoreBatch:
    """Returns a batch in a shape that is no smaller; further rows repeat the last one."""
    features = {}
    for name, feature in batch.features.items():
        missing = [size - own for size, own in zip(shape[name], feature.shape, strict=True)]
        if feature.ndim > 1:
            columns = (missing[1], 0) if batch.is_shared and name in _LEFT else (0, missing[1])
            feature = np.pad(feature, [(0, 0), columns])
            feature = np.pad(feature, [(0, missing[0]), (0, 0)], mode="edge")
        else:
            feature = np.pad(feature, (0, missing[0]))
        features[name] = feature
    return dataclasses.replace(batch, features=features)

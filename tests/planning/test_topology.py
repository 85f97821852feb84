"""Names of slices."""

import math

import pytest

from triarch.errors import UserError
from triarch.planning.topology import known_shapes, parse
from triarch.training.choosing.chips import CHIPS


@pytest.mark.parametrize(
    ("text", "name", "slice_name", "chips"),
    [
        ("v5p:4x4x4", "v5p:4x4x4", "v5p-128", 64),
        ("v5p-128", "v5p:4x4x4", "v5p-128", 64),
        ("v4-512", "v4:4x8x8", "v4-512", 256),
        ("v4:4x4x8", "v4:4x4x8", "v4-256", 128),
        ("v5e:16x16", "v5e:16x16", "v5e-256", 256),
        ("v5litepod-8", "v5e:2x4", "v5e-8", 8),
        ("v6e-1", "v6e:1x1", "v6e-1", 1),
        ("V5P-8", "v5p:2x2x1", "v5p-8", 4),
        ("v5p-12288", "v5p:16x16x24", "v5p-12288", 6144),
    ],
)
def test_names_of_both_kinds(text, name, slice_name, chips):
    """The shapes are those of Google's tables of accelerator types."""
    topology = parse(text)
    assert (topology.name, topology.slice_name, topology.num_devices) == (name, slice_name, chips)


@pytest.mark.parametrize("generation", CHIPS)
def test_every_shape_is_found_by_its_own_name(generation):
    shapes = known_shapes(CHIPS[generation])
    assert len(set(shapes)) == len(shapes)
    for shape in shapes:
        topology = parse(f"{generation}:{'x'.join(map(str, shape))}", slices=3)
        assert topology.shape == shape and topology.num_devices == 3 * math.prod(shape)
        assert math.prod(parse(topology.slice_name).shape) == math.prod(shape)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v5q:4x4x4", "no TPU generation 'v5q' .did you mean 'v5p'"),
        ("v5p:3x3x3", "no such slice .did you mean 'v5p:2x4x4', which is v5p-64"),
        ("v5p-100", "did you mean 'v5p:4x4x4', which is v5p-128"),
        ("v5e:4x4x4", "did you mean 'v5e:8x8'"),
        ("v4", "expected a name such as v5p:4x4x4"),
        ("", "expected a name such as"),
    ],
)
def test_what_is_no_slice_is_answered_with_the_nearest(text, message):
    with pytest.raises(UserError, match=message):
        parse(text)


def test_there_is_at_least_one_slice():
    with pytest.raises(UserError, match="--slices=0"):
        parse("v4-8", 0)

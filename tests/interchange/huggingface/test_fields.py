"""Which layers attend globally, from config.json's list, against the rule by which a network has them."""

from __future__ import annotations

import itertools

import pytest

from triarch.errors import UserError
from triarch.interchange.huggingface.fields import ConfigFields


def evenly(num_layers: int) -> dict[tuple[bool, ...], tuple[int, int]]:
    """Returns every pattern of layers i with i % every == first, and the smallest (every, first) that makes it."""
    found: dict[tuple[bool, ...], tuple[int, int]] = {}
    for every in range(1, num_layers + 2):
        for first in range(every):
            found.setdefault(tuple(i % every == first for i in range(num_layers)), (every, first))
    return found


@pytest.mark.parametrize("num_layers", range(1, 8))
def test_global_layers(num_layers):
    expected = evenly(num_layers)
    for pattern in itertools.product((False, True), repeat=num_layers):
        types = ["full_attention" if is_global else "sliding_attention" for is_global in pattern]
        fields = ConfigFields({"layer_types": types}, "config.json", "Class")
        if all(pattern):
            assert fields.global_layers(num_layers, ()) is None
        elif pattern in expected:
            assert fields.global_layers(num_layers, ()) == expected[pattern]
        else:
            with pytest.raises(UserError, match="layer_types: full attention in layers that are not evenly apart"):
                fields.global_layers(num_layers, ())

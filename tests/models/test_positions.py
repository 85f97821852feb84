"""Positions counted one token at a time, and what a rotation must keep."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from triarch.models.attention.positions import continued_positions, positions_in_segments, rotary_angles, rotate
from triarch.models.attention.rope import Rope

runs = st.lists(st.integers(0, 4), min_size=3, max_size=3)


def packed(lengths, padding, left):
    """Segment ids 1, 2, 3 (those of length 0 missing) with padding before or after."""
    ids = [segment for segment, count in enumerate(lengths, 1) for _ in range(count)]
    pads = [0] * (padding + 12 - len(ids))
    return np.array([pads + ids if left else ids + pads], np.int32)


@settings(max_examples=40, deadline=None)
@given(source=runs, target=runs, left=st.booleans())
def test_positions_count_on_from_the_encoder(source, target, left):
    encoder, decoder = packed(source, 1, left), packed(target, 0, left)
    own = positions_in_segments(decoder)
    continued = continued_positions(own, decoder, positions_in_segments(encoder), encoder)
    seen = {0: 0, 1: 0, 2: 0, 3: 0}
    for column, segment in enumerate(decoder[0].tolist()):
        if segment:
            assert own[0, column] == seen[segment]
            assert continued[0, column] == seen[segment] + source[segment - 1]
            seen[segment] += 1


def test_a_rotation_turns_by_position_and_keeps_norms():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 3, 2, 8))
    places = np.array([[0, 5, 1_000]], np.int32)
    with jax.enable_x64(True):
        turned = np.asarray(rotate(x, rotary_angles(places, 8, Rope(10_000.0))))
    assert turned.dtype == np.float64
    angle = np.array([[p * 10_000.0 ** (-i / 4) for i in range(4)] for p in places[0]])[None, :, None]
    wanted = (x[..., :4] + 1j * x[..., 4:]) * np.exp(1j * angle)
    np.testing.assert_allclose(turned, np.concatenate([wanted.real, wanted.imag], -1), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1))


def test_angles_are_float32_and_stay_good_at_long_range():
    cos, sin = rotary_angles(np.array([[131_071]], np.int32), 128, Rope(10_000.0))
    assert cos.dtype == sin.dtype == np.float32 and cos.shape == (1, 1, 1, 64)
    wanted = 131_071 * 10_000.0 ** (-np.arange(64) / 64)
    np.testing.assert_allclose(cos[0, 0, 0], np.cos(wanted), atol=0.03)


def test_bfloat16_vectors_stay_bfloat16():
    x = np.ones((1, 2, 1, 4), jax.numpy.bfloat16)
    assert rotate(x, rotary_angles(np.array([[0, 1]]), 4, Rope(10.0))).dtype == jax.numpy.bfloat16

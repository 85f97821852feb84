"""T5's noise: tokens as `t5.data.preprocessors` makes them, masks distributed as theirs."""

import collections
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from triarch.objectives.span_corruption import SpanCounts, corrupt, random_noise_mask, span_counts

# Printed by t5 0.9.4 for tokens 10, 11, ... and a vocabulary of 100 ids: random_spans_noise_mask of (length,
# noise_density, mean_noise_span_length), then noise_span_to_unique_sentinel and nonnoise_span_to_unique_sentinel.
T5 = [
    (20, 0.15, 3.0, "00000000000000000111", [*range(10, 27), 99], [99, 27, 28, 29]),
    (
        *(24, 0.5, 3.0, "000111111000001001001111"),
        [10, 11, 12, 99, 19, 20, 21, 22, 23, 98, 25, 26, 97, 28, 29, 96],
        [99, 13, 14, 15, 16, 17, 18, 98, 24, 97, 27, 96, 30, 31, 32, 33],
    ),
    (30, 0.15, 3.0, "000000000000000000000000001111", [*range(10, 36), 99], [99, 36, 37, 38, 39]),
    (
        *(17, 0.5, 2.0, "00001011100011101"),
        [10, 11, 12, 13, 99, 15, 98, 19, 20, 21, 97, 25, 96],
        [99, 14, 98, 16, 17, 18, 97, 22, 23, 24, 96, 26],
    ),
    (24, 0.25, 64.0, "000000000000000000111111", [*range(10, 28), 99], [99, *range(28, 34)]),
    (2, 0.5, 3.0, "01", [10, 99], [99, 11]),
    (9, 0.3, 1.0, "001001001", [10, 11, 99, 13, 14, 98, 16, 17, 97], [99, 12, 98, 15, 97, 18]),
]
SENTINELS = np.arange(99, 59, -1, dtype=np.int32)


def mask_of(text):
    return np.array([character == "1" for character in text])


@pytest.mark.parametrize(("length", "density", "mean", "mask", "inputs", "targets"), T5)
def test_tokens_and_counts_are_t5s(length, density, mean, mask, inputs, targets):
    noise = mask_of(mask)
    actual = corrupt(np.arange(10, 10 + length, dtype=np.int32), noise, SENTINELS)
    for made, wanted in zip(actual, (inputs, targets), strict=True):
        assert made.tolist() == wanted and made.dtype == np.int32
    starts = int(noise[0]) + int((noise[1:] & ~noise[:-1]).sum())
    assert span_counts(length, density, mean) == (noise.sum(), (~noise).sum(), starts)


def test_halves_are_rounded_as_in_t5s_mask():
    # 190 * 0.15 is 28.5 in float64, which random_spans_helper rounds to 28; in float32 it is above, and T5 masks 29.
    assert span_counts(190, 0.15, 3.0).noise == 29
    assert span_counts(30, 0.15, 3.0).noise == 4


@given(st.integers(2, 300), st.floats(0.05, 0.95), st.floats(1, 80), st.integers(0, 2**32))
def test_a_mask_has_the_counts_and_begins_with_kept_tokens(length, density, mean, seed):
    counts = span_counts(length, density, mean)
    assert counts.noise + counts.kept == length and min(counts) > 0
    spans = min(counts.spans, counts.kept)
    noise = random_noise_mask(length, counts, np.random.default_rng(seed))
    assert noise.sum() == counts.noise and len(noise) == length
    assert not noise[0] and noise[-1]
    assert (noise[1:] & ~noise[:-1]).sum() == spans


def test_every_mask_is_equally_likely():
    counts = SpanCounts(noise=4, kept=6, spans=2)
    rng = np.random.default_rng(0)
    drawn = collections.Counter(random_noise_mask(10, counts, rng).tobytes() for _ in range(6000))
    # 4 tokens in 2 non-empty spans and 6 in 2: what t5 draws too, 15 masks in 4000 seeds.
    assert len(drawn) == math.comb(3, 1) * math.comb(5, 1)
    assert chisquare(list(drawn.values())).pvalue > 1e-3


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 2**32))
def test_inputs_and_targets_give_the_tokens_back(noise, seed):
    noise = np.array([False, *noise])
    tokens = np.random.default_rng(seed).integers(100, 200, len(noise), dtype=np.int32)
    inputs, targets = corrupt(tokens, noise, SENTINELS)
    starts = np.flatnonzero(targets < 100)
    spans = {part[0]: part[1:].tolist() for part in np.split(targets, starts)[1:]}
    assert len(spans) == len(starts)
    assert [token for item in inputs.tolist() for token in spans.get(item, [item])] == tokens.tolist()

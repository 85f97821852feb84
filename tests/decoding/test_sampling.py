"""What is sampled, against probabilities computed by themselves, and counted."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from triarch.decoding import GenerationSettings
from triarch.decoding.sampling import Sampler

LOGITS = np.array([2.0, 0.5, -1.0, 1.4, 1.3, -3.0, 0.0, 0.9])
FILTERS = {
    "none": {},
    "top_k": {"top_k": 4},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.3},
    "all": {"top_k": 6, "top_p": 0.9, "min_p": 0.2},
}


def probabilities(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    """Token by token, likeliest first: what is left, and how likely it is."""
    heat = [np.exp((x - max(logits)) / temperature) for x in logits]
    order = sorted(range(len(logits)), key=lambda i: -heat[i])[: top_k or len(logits)]
    if top_p is not None:
        total, mass, kept = sum(heat[i] for i in order), 0.0, []
        for i in order:
            kept.append(i)
            mass += heat[i] / total
            if mass >= top_p:
                break
        order = kept
    if min_p is not None:
        order = [i for i in order if heat[i] >= min_p * heat[order[0]]]
    total = sum(heat[i] for i in order)
    return np.array([heat[i] / total if i in order else 0.0 for i in range(len(logits))])


def sampler(seed=0, temperature=1.0, **filters):
    return Sampler.of(GenerationSettings(temperature=temperature, seed=seed, **filters), len(LOGITS))


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_frequencies_are_the_probabilities(name, temperature):
    count = 20_000
    one = sampler(3, temperature, **FILTERS[name])
    tokens = one.choose(jnp.tile(jnp.asarray(LOGITS), (count, 1)), jnp.arange(count), jnp.int32(4))
    expected = probabilities(LOGITS, temperature, **FILTERS[name])
    counted = np.bincount(np.asarray(tokens), minlength=len(LOGITS))
    assert not counted[expected == 0].any()
    there = expected > 0
    assert scipy.stats.chisquare(counted[there], count * expected[there]).pvalue > 1e-3


def test_a_filter_of_one_takes_the_likeliest():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(50, len(LOGITS))))
    rows, step = jnp.arange(50), jnp.int32(0)
    likeliest = Sampler.of(GenerationSettings(), len(LOGITS)).choose(logits, rows, step)
    np.testing.assert_array_equal(sampler(5, 2.0, top_k=1).choose(logits, rows, step), likeliest)
    np.testing.assert_array_equal(likeliest, np.argmax(logits, axis=-1))


def test_steps_and_rows_draw_independently():
    """Pairs of neighbouring draws, along rows and along steps, are as frequent as independence has it."""
    one, count = sampler(8), 20_000
    logits = jnp.tile(jnp.asarray(LOGITS), (count, 1))
    draws = [np.asarray(one.choose(logits, jnp.arange(count), jnp.int32(step))) for step in range(2)]
    for first, second in ((draws[0], draws[1]), (draws[0][:-1], draws[0][1:])):
        table = np.zeros((len(LOGITS),) * 2)
        np.add.at(table, (first, second), 1)
        often = probabilities(LOGITS) > 0.02
        assert scipy.stats.chi2_contingency(table[often][:, often]).pvalue > 1e-3


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.integers(-400, 400), min_size=8, max_size=8, unique=True),
    top_k=st.none() | st.integers(1, 9),
    top_p=st.none() | st.integers(1, 99),
    min_p=st.none() | st.integers(1, 99),
)
def test_filters_leave_what_they_should(logits, top_k, top_p, min_p):
    logits = np.array(logits) / 97
    top_p, min_p = (None if share is None else share / 100 + 0.0031 for share in (top_p, min_p))
    wanted = probabilities(logits, 1.3, top_k, top_p, min_p)
    one = sampler(0, 1.3, top_k=top_k, top_p=top_p, min_p=min_p)
    filtered = np.asarray(one.filtered(jnp.asarray(logits[None], jnp.float32)))[0]
    heat = np.exp(filtered - filtered.max())
    np.testing.assert_allclose(heat / heat.sum(), wanted, atol=1e-5)

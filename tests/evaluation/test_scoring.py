"""The three architectures are asked for the same tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation import domains
from triarch.cli.verbs.evaluate import loss_cells
from triarch.evaluation.held_out import summarise
from triarch.evaluation.sampling import Scored
from triarch.evaluation.scoring import by_objective, paired_objective, pseudo_likelihood
from triarch.evaluation.suites import SuiteDomain, averages
from triarch.evaluation.sums import WindowSums
from triarch.objectives import UL2, CausalLM, PrefixLM, SpanCorruption

SPECIAL = domains.special_tokens()


def targets(scoring, window: np.ndarray) -> list[int]:
    """Returns the ids that have weight, in order."""
    rows = scoring.rows({"tokens": window}, 0)
    assert len(rows) == scoring.rows_per_window
    return [int(t) for row in rows for t, w in zip(row["scored_targets"], row["scored_weights"], strict=True) if w]


@given(st.integers(2, 70), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_all_architectures_score_the_same_tokens(length, seed):
    window = np.random.default_rng(seed).integers(0, domains.VOCAB_SIZE, length).astype(np.int32)
    decoder, two_sided = (
        by_objective("paired", paired_objective(CausalLM()), architecture, SPECIAL, domains.VOCAB_SIZE, length, 0)
        for architecture in ("decoder-only", "encoder-decoder")
    )
    encoder = pseudo_likelihood(paired_objective(None), SPECIAL, domains.VOCAB_SIZE, length, None, 0)
    expected = window[round(length / 2) :].tolist()
    assert targets(decoder, window) == targets(two_sided, window) == targets(encoder, window) == expected


@given(st.integers(2, 70), st.integers(1, 80), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_pseudo_likelihood_hides_one_target_a_row_and_nothing_else(length, positions, seed):
    window = np.arange(4, 4 + length, dtype=np.int32)
    scoring = pseudo_likelihood(PrefixLM(), SPECIAL, domains.VOCAB_SIZE, length, positions, seed)
    rows = scoring.rows({"tokens": window}, 3)
    hidden = [np.flatnonzero(row["encoder_input_tokens"] != window).tolist() for row in rows]
    assert all(len(one) == 1 for one in hidden)
    flat = [one[0] for one in hidden]
    assert flat == sorted(set(flat)) and min(flat) >= round(length / 2)
    assert len(flat) == min(positions, length - round(length / 2))
    for position, row in zip(flat, rows, strict=True):
        assert row["encoder_input_tokens"][position] == SPECIAL.mask
        assert (row["scored_positions"][0], row["scored_targets"][0]) == (position, window[position])


def test_paired_cuts_in_the_middle_whatever_the_training_cut():
    assert paired_objective(PrefixLM(0.25, bidirectional_prefix=True)) == PrefixLM(0.5, bidirectional_prefix=True)
    assert paired_objective(PrefixLM(split="uniform", append_eos=True)) == PrefixLM(0.5)
    assert paired_objective(SpanCorruption(bidirectional_prefix=True)) == PrefixLM(0.5, bidirectional_prefix=True)
    assert paired_objective(UL2) == PrefixLM(0.5, mode="S")
    assert paired_objective(None) == PrefixLM(0.5)


def test_standard_error_of_unequal_windows_equals_the_jackknife_to_first_order():
    rng = np.random.default_rng(0)
    tokens = rng.integers(20, 40, 400).astype(float)
    nats = tokens * rng.normal(3, 0.4, 400)
    evaluation = summarise(Scored.whole(WindowSums(nats, tokens, 3 * tokens)))
    leave_one_out = (nats.sum() - nats) / (tokens.sum() - tokens)
    jackknife = np.sqrt(399 / 400 * ((leave_one_out - leave_one_out.mean()) ** 2).sum())
    assert abs(evaluation.standard_error / jackknife - 1) < 0.01
    # Were tokens independent, windows would not matter; here they do.
    assert evaluation.standard_error > 3 * 0.4 / np.sqrt(tokens.sum())


@pytest.mark.parametrize(
    ("nats", "perplexity", "shown"),
    [
        (709.7, 1.6549840276802644e308, "1.65e+308"),
        (709.8, None, "> 1e308"),
        (1e6, None, "> 1e308"),
        (0.0, 1.0, "1.00"),
    ],
)
def test_perplexity_beyond_a_number(nats, perplexity, shown):
    """Of a loss that is finite: e^709.782 is the largest number of 64 bits."""
    tokens = np.ones(2)
    loss = summarise(WindowSums(nats * tokens, tokens, tokens))
    mean = averages("paired", [(SuiteDomain("a", "b", None), WindowSums(nats * tokens, tokens, tokens))])
    assert [one.perplexity for one in mean] == [loss.perplexity] * len(mean)
    assert loss.nats_per_token == nats and loss.perplexity == (perplexity and pytest.approx(perplexity, rel=1e-12))
    assert loss_cells(loss)[3] == shown


def test_perplexity_of_no_tokens():
    nothing = np.zeros(2)
    loss = summarise(WindowSums(nothing, nothing, nothing))
    assert loss.perplexity is None and loss_cells(loss)[3] == "-"

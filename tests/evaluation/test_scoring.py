"""The three architectures are asked for the same tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation import domains
from triarch.cli.verbs.evaluate import LOSS_HEADER, loss_cells
from triarch.data.token_bytes import TokenBytes
from triarch.evaluation.held_out import summarise
from triarch.evaluation.sampling import Sample, Scored
from triarch.evaluation.scoring import by_objective, paired_objective, pseudo_likelihood
from triarch.evaluation.suites import SuiteDomain, averages
from triarch.evaluation.sums import Scorer, WindowSums
from triarch.objectives import UL2, CausalLM, MaskedLM, PrefixLM, SpanCorruption, SpecialTokens, Supervised

SPECIAL = domains.special_tokens()
_WINDOW = 16


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
        by_objective("paired", paired_objective(CausalLM()), architecture, SPECIAL, domains.BYTES, length, 0)
        for architecture in ("decoder-only", "encoder-decoder")
    )
    encoder = pseudo_likelihood(paired_objective(None), SPECIAL, domains.BYTES, length, None, 0)
    expected = window[round(length / 2) :].tolist()
    assert targets(decoder, window) == targets(two_sided, window) == targets(encoder, window) == expected


@given(st.integers(2, domains.VOCAB_SIZE - 4), st.integers(1, 80), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_pseudo_likelihood_hides_one_target_a_row_and_nothing_else(length, positions, seed):
    window = np.arange(4, 4 + length, dtype=np.int32)
    scoring = pseudo_likelihood(PrefixLM(), SPECIAL, domains.BYTES, length, positions, seed)
    rows = scoring.rows({"tokens": window}, 3)
    hidden = [np.flatnonzero(row["encoder_input_tokens"] != window).tolist() for row in rows]
    assert all(len(one) == 1 for one in hidden)
    flat = [one[0] for one in hidden]
    assert flat == sorted(set(flat)) and min(flat) >= round(length / 2)
    assert len(flat) == min(positions, length - round(length / 2))
    for position, row in zip(flat, rows, strict=True):
        assert row["encoder_input_tokens"][position] == SPECIAL.mask
        assert (row["scored_positions"][0], row["scored_targets"][0]) == (position, window[position])


@pytest.mark.parametrize("is_packed", [False, True])
def test_an_encoder_between_cls_and_sep_is_scored_on_the_rows_that_it_was_trained_on(is_packed):
    size, eos = domains.VOCAB_SIZE, SPECIAL.eos
    first, second = [*range(4, 12), eos], [*range(20, 25), eos]
    window = np.array(first + second, np.int32)
    example = {"tokens": window}
    if is_packed:
        example |= {"segment_ids": np.repeat([1, 2], [len(first), len(second)]).astype(np.int32)}
    scoring = pseudo_likelihood(PrefixLM(), SPECIAL, domains.BYTES, len(window), None, 0, add_special_tokens=True)
    objective = MaskedLM(add_special_tokens=True)
    trained = objective.transform("encoder-only", SPECIAL, size, len(window))(example, np.random.default_rng(0))
    rows = scoring.rows(example, 0)
    for row in rows:
        ((place,), (target,)) = row["scored_positions"], row["scored_targets"]
        whole = row["encoder_input_tokens"].copy()
        assert whole[place] == SPECIAL.mask
        whole[place] = target
        np.testing.assert_array_equal(whole, trained["encoder_target_tokens"])
        np.testing.assert_array_equal(row["encoder_segment_ids"], trained["encoder_segment_ids"])
        assert set(row) - set(trained) == {name for name in row if name.startswith("scored")}
    scored = [int(row["scored_targets"][0]) for row in rows]
    # The second half of each text, but no end token.
    assert scored == ([9, 10, 11, 23, 24] if is_packed else [20, 21, 22, 23, 24])


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
    loss = summarise(Scored.whole(WindowSums(nats * tokens, tokens, tokens)))
    mean = averages("paired", [(SuiteDomain("a", "b", None), Scored.whole(WindowSums(nats * tokens, tokens, tokens)))])
    assert [one.perplexity for one in mean] == [loss.perplexity] * len(mean)
    assert loss.nats_per_token == nats and loss.perplexity == (perplexity and pytest.approx(perplexity, rel=1e-12))
    assert loss_cells(loss)[LOSS_HEADER.index("perplexity")] == shown


def test_perplexity_of_no_tokens():
    nothing = np.zeros(2)
    loss = summarise(Scored.whole(WindowSums(nothing, nothing, nothing)))
    assert loss.perplexity is None and loss_cells(loss)[LOSS_HEADER.index("perplexity")] == "-"


@pytest.mark.parametrize("architecture", ["encoder-decoder", "decoder-only"])
def test_spans_that_begin_a_document_are_told(architecture):
    """Of every span the token before it in the window says so, wherever the window was cut."""
    special = SpecialTokens(0, 1, 2, None, tuple(range(99, 79, -1)), {"R": 60})
    spaced, found = TokenBytes(np.full(100, 3, np.uint16), np.full(100, 2, np.uint16)), set()
    for objective in (SpanCorruption(0.4, 2.0), SpanCorruption(0.4, 2.0, mode="R")):
        scoring = by_objective("native", objective, architecture, special, spaced, 30, 0)
        for seed in range(30):
            rng = np.random.default_rng(seed)
            # No token comes twice, so that each tells its place; one in three ends a document.
            window = rng.permutation(np.arange(3, 33)).astype(np.int32)
            window[rng.random(30) < 0.3] = special.eos
            for previous in ({}, {"previous_token": special.eos}, {"previous_token": 50}):
                (row,) = scoring.rows({"tokens": window, **previous}, seed)
                starts = {int(window[place]) for place in range(1, 30) if window[place - 1] == special.eos}
                starts |= {int(window[0])} if previous.get("previous_token") != 50 else set()
                for target, num_bytes in zip(row["scored_targets"], row["scored_bytes"], strict=True):
                    if 3 <= target < 33:
                        assert num_bytes == (2 if int(target) in starts else 3)
                        found.add(int(num_bytes))
    assert found == {2, 3}


def test_drawn_tokens_stand_for_all_of_their_window():
    """A few of each window: a text of long windows weighs by its tokens, and so does the longer one of two pairs."""
    few, strata, one_byte = 3, [], TokenBytes.fixed(np.ones(domains.VOCAB_SIZE))
    for window, count, nats in ((16, 4, 2.0), (64, 2, 5.0)):
        scoring = pseudo_likelihood(PrefixLM(), SPECIAL, one_byte, window, few, 0)
        scorer = Scorer(
            lambda batch, nats=nats: np.full(batch["scored_targets"].shape, nats),
            1.0, 4, lambda rows: None,
        )  # fmt: skip
        windows = [(n, {"tokens": tokens}) for n, tokens in enumerate(domains.random_windows(count, window))]
        sums = scorer.window_sums(windows, scoring)
        assert sums.tokens == pytest.approx(np.full(count, window / 2))
        sample = Sample(np.arange(count), count)
        strata.append((SuiteDomain("s", str(window), None), Scored(sums, sample, scoring.share(sums.tokens))))
    (micro,) = [loss for loss in averages("pseudo_likelihood", strata) if (loss.average, loss.source) == ("micro", "s")]
    assert micro.nats_per_token == pytest.approx((4 * 8 * 2.0 + 2 * 32 * 5.0) / (4 * 8 + 2 * 32))
    assert (micro.num_tokens, micro.num_bytes) == (6 * few, 6 * few)
    pairs = pseudo_likelihood(Supervised(4, 8), SPECIAL, domains.BYTES, 12, few, 0)
    for targets, scored in ((1, 1), (7, few)):
        example = {"inputs": np.arange(4, 6, dtype=np.int32), "targets": np.arange(6, 6 + targets, dtype=np.int32)}
        rows = pairs.rows(example, 0)
        assert len(rows) == scored
        assert sum(float(row["scored_weights"].sum()) for row in rows) == pytest.approx(targets)
        assert pairs.share(np.array([targets])) == pytest.approx(scored / targets)

"""Averages over domains and sources equal those by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation import domains
from tests.evaluation.test_held_out import loaded
from tests.models import tiny
from triarch.errors import UserError
from triarch.evaluation import Domain, Options, evaluate
from triarch.evaluation.sampling import Scored
from triarch.evaluation.suites import SuiteDomain, averages, evaluate_suite, open_suite
from triarch.evaluation.sums import WindowSums


def of(losses, average, source=None):
    (found,) = [loss for loss in losses if (loss.average, loss.source) == (average, source)]
    return found


def test_averages_by_hand():
    # Nats, tokens and bytes of windows: source "a" has domains of 3 and 2 windows, source "b" one.
    a1 = WindowSums(np.array([10.0, 12.0, 17.0]), np.array([5.0, 5.0, 5.0]), np.array([20.0, 22.0, 18.0]))
    a2 = WindowSums(np.array([9.0, 3.0]), np.array([4.0, 2.0]), np.array([8.0, 4.0]))
    b1 = WindowSums(np.array([8.0, 10.0]), np.array([10.0, 10.0]), np.array([50.0, 50.0]))
    scored = [
        (SuiteDomain(s, n, None), Scored.whole(w)) for s, n, w in (("a", "x", a1), ("a", "y", a2), ("b", "b", b1))
    ]
    losses = averages("paired", scored)
    x, y, b = (loss for loss in losses if loss.average == "domain")
    assert [x.nats_per_token, y.nats_per_token, b.nats_per_token] == pytest.approx([39 / 15, 2.0, 0.9])
    # Standard errors of ratios: sqrt(n / (n - 1) sum e^2) / T with e = nats - ratio * tokens.
    assert x.standard_error == pytest.approx(np.sqrt(3 / 2 * (9 + 1 + 16)) / 15)
    assert y.standard_error == pytest.approx(np.sqrt(2 * (1 + 1)) / 6)
    assert of(losses, "micro", "a").nats_per_token == pytest.approx(51 / 21)
    assert of(losses, "macro", "a").nats_per_token == pytest.approx((39 / 15 + 2) / 2)
    # Within its domain a window varies around that domain's mean residual.
    ratio, error = 51 / 21, 0.0
    for nats, tokens in ((a1.nats, a1.tokens), (a2.nats, a2.tokens)):
        residual = nats - ratio * tokens
        error += len(nats) / (len(nats) - 1) * ((residual - residual.mean()) ** 2).sum()
    assert of(losses, "micro", "a").standard_error == pytest.approx(np.sqrt(error) / 21)
    assert of(losses, "micro").nats_per_token == pytest.approx(69 / 41)
    assert of(losses, "macro").nats_per_token == pytest.approx((39 / 15 + 2 + 0.9) / 3)
    assert of(losses, "macro").standard_error == pytest.approx(
        np.sqrt(x.standard_error**2 + y.standard_error**2 + b.standard_error**2) / 3
    )
    whole = of(losses, "macro_sources")
    assert whole.nats_per_token == pytest.approx((51 / 21 + 0.9) / 2)
    assert whole.perplexity == pytest.approx(np.exp((51 / 21 + 0.9) / 2))
    bits = [51 / np.log(2) / 72, 18 / np.log(2) / 100]
    assert whole.bits_per_byte == pytest.approx(np.mean(bits))
    assert (whole.num_tokens, whole.num_windows) == (41, 7)


def test_error_of_an_average_is_that_of_repeated_samples():
    """Draws of windows from two unlike domains, many times: the spread of the micro average is its standard error."""
    rng = np.random.default_rng(0)

    def draw():
        strata = []
        for mean, count in ((2.0, 12), (5.0, 5)):
            tokens = rng.integers(20, 40, count).astype(float)
            strata.append(WindowSums(tokens * rng.normal(mean, 0.3, count), tokens, tokens))
        return averages(
            "paired", [(SuiteDomain("s", str(i), None), Scored.whole(sums)) for i, sums in enumerate(strata)]
        )

    drawn = [of(draw(), "micro") for _ in range(2000)]
    spread = np.std([loss.nats_per_token for loss in drawn])
    # Tokens of a domain vary here from draw to draw, which the ratio sees through the mean of the other domain.
    assert np.sqrt(np.mean([loss.standard_error**2 for loss in drawn])) == pytest.approx(spread, rel=0.05)


def test_one_window_has_no_error():
    one = WindowSums(np.array([3.0]), np.array([2.0]), np.array([0.0]))
    two = WindowSums(np.array([3.0, 4.0]), np.array([2.0, 2.0]), np.array([5.0, 5.0]))
    scored = [(SuiteDomain(n, n, None), Scored.whole(sums)) for n, sums in (("a", one), ("b", two))]
    losses = averages("paired", scored)
    assert of(losses, "macro").standard_error is None and of(losses, "micro").standard_error is None
    assert of(losses, "macro").bits_per_byte is None
    # A source of one domain stands there once.
    assert [loss.average for loss in losses] == ["domain", "domain", "micro", "macro", "macro_sources"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("suite")
    for i, path in enumerate(("one/left", "one/right", "two")):
        (root / path).parent.mkdir(exist_ok=True)
        domains.write_domain(root / path, domains.random_windows(3 + i, seed=i))
    return root


@pytest.mark.slow
def test_every_domain_is_evaluated_as_alone(folder):
    model = loaded(tiny.REDLLM)
    suite = open_suite(folder)
    assert [(d.source, d.name) for d in suite] == [("one", "left"), ("one", "right"), ("two", "two")]
    losses = evaluate_suite(model, suite, Options(max_windows=4))
    alone = evaluate(model, [Domain(d.store, "in_domain") for d in suite], Options(max_windows=4))
    for scoring in ("paired", "native"):
        found = [loss.nats_per_token for loss in losses if (loss.scoring, loss.average) == (scoring, "domain")]
        assert found == [one.nats_per_token for one in alone if one.scoring == scoring]
    tokens = [loss.num_tokens for loss in losses if (loss.scoring, loss.average) == ("paired", "domain")]
    assert tokens == [count * domains.WINDOW // 2 for count in (3, 4, 4)]


def test_folders_that_are_no_suite(folder, tmp_path):
    with pytest.raises(UserError, match=r"suit: no such folder of token stores"):
        open_suite(folder.parent / "suit")
    with pytest.raises(UserError, match="two: is one token store; a suite is a folder of them"):
        open_suite(folder / "two")
    with pytest.raises(UserError, match="holds no token store"):
        open_suite(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: neither a token store nor a folder of them"):
        open_suite(tmp_path)
    (tmp_path / "empty" / "logs").mkdir()
    with pytest.raises(UserError, match=r"logs: not a token store: it holds no manifest.json"):
        open_suite(tmp_path)

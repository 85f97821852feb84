"""Averages over windows equal numpy's on the observed matrices."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from tests.evaluation import domains
from tests.evaluation.test_held_out import ENCODER, TRAINED, loaded, shifted
from tests.models import tiny
from triarch.errors import UserError
from triarch.evaluation.attention import AttentionOptions, analyse
from triarch.evaluation.observing import AttentionSite, observed, sites

WINDOWS = domains.random_windows(3, seed=6)
SIDES = ("encoder", "decoder")
OPTIONS = AttentionOptions(batch_size=2, locality_window=3, rank_threshold=0.1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return domains.write_domain(tmp_path_factory.mktemp("text") / "text", WINDOWS).store


def weights(config, model) -> dict[AttentionSite, np.ndarray]:
    """Returns float64[window, head, query, key] of each site, given what each architecture reads."""
    if config.architecture == "encoder-only":
        batch = {"encoder_input_tokens": WINDOWS, "encoder_segment_ids": np.ones_like(WINDOWS)}
    elif config.architecture == "decoder-only":
        batch = {"decoder_input_tokens": shifted(WINDOWS)}
    else:
        source, target = np.split(WINDOWS, 2, axis=1)
        batch = {"encoder_input_tokens": source, "encoder_segment_ids": np.ones_like(source)}
        batch["decoder_input_tokens"] = shifted(target)
    seen = model.compiled(lambda model, batch: {s: o.weights for s, o in observed(model, batch).items()})(batch)
    return {site: values.astype(np.float64) for site, values in seen.items()}


def entropy(shares: np.ndarray) -> np.ndarray:
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(-1)


def ranks(squares: np.ndarray) -> np.ndarray:
    values = np.linalg.svd(squares, compute_uv=False)
    return np.exp(entropy(values / values.sum(-1, keepdims=True)))


@pytest.mark.parametrize(
    "architecture", ["encoder-decoder", *(pytest.param(f"{side}-only", marks=pytest.mark.slow) for side in SIDES)]
)
def test_equals_numpy(architecture, store):
    (config,) = [config for config in TRAINED if config.architecture == architecture]
    model = loaded(config)
    found = analyse(model, store, OPTIONS)
    by_site = weights(config, model)
    assert [(h.kind, h.layer, h.head) for h in found.heads] == [
        (*site, head) for site in sites(config) for head in range(config.num_heads)
    ]
    for head in found.heads:
        square = by_site[AttentionSite(head.kind, head.layer)][:, head.head]
        rank = ranks(square)
        assert head.effective_rank == pytest.approx(rank.mean(), rel=1e-4)
        assert head.effective_rank_error == pytest.approx(rank.std(ddof=1) / math.sqrt(3), rel=1e-2, abs=1e-5)
        values = np.linalg.svd(square, compute_uv=False)
        assert head.numerical_rank == pytest.approx((values > 0.1 * values[:, :1]).sum(-1).mean())
        assert head.entropy == pytest.approx(entropy(square).mean(), rel=1e-4)
        information = entropy(square.mean(1)) - entropy(square).mean(1)
        assert head.query_dependence == pytest.approx(information.mean(), rel=1e-3, abs=1e-5)
        assert (head.full_rank, head.num_windows) == (min(square.shape[1:]), 3)
        assert (head.locality is None) == (head.kind == "cross")
    for site, values in found.locality.items():
        square, size = by_site[site], by_site[site].shape[-1]
        offsets = np.arange(size)[:, None] - np.arange(size)[None]
        near = (offsets >= 0) & (offsets < 3) if site.kind == "decoder" else np.abs(offsets) <= 1
        np.testing.assert_allclose(values, (square * near).sum(-1).mean((0, 1)), rtol=1e-5)
        own = [head.locality for head in found.heads if (head.kind, head.layer) == site]
        assert np.mean(own) == pytest.approx(values.mean(), rel=1e-6)
    for site, values in found.keys.items():
        np.testing.assert_allclose(values, by_site[site].mean((0, 1, 2)), rtol=1e-5)
    for (site, head), shown in found.maps.items():
        np.testing.assert_allclose(shown, by_site[site][0, head], atol=1e-6)


def test_what_the_mask_alone_gives(store):
    heads = analyse(loaded(ENCODER), store, dataclasses.replace(OPTIONS, max_windows=1)).heads
    window = ENCODER.sliding_window
    near = np.abs(np.subtract.outer(range(domains.WINDOW), range(domains.WINDOW))) <= window
    local = near / near.sum(1, keepdims=True)
    for head in heads:
        is_global = head.layer % ENCODER.global_every == 0
        rank, even = (1, math.log(domains.WINDOW)) if is_global else (ranks(local), entropy(local).mean())
        assert head.uniform_rank == pytest.approx(rank, rel=1e-3)
        assert head.uniform_entropy == pytest.approx(even, rel=1e-5)
        assert head.entropy <= head.uniform_entropy + 1e-6
        assert head.effective_rank_error is None


@pytest.mark.slow
def test_maps_of_chosen_layers_and_heads(store):
    options = dataclasses.replace(OPTIONS, layers=(1,), heads=(1, 0), example=2, length=6)
    model = loaded(tiny.REDLLM)
    shown = analyse(model, store, options).maps
    assert {(site.kind, site.layer, head) for site, head in shown} == {
        (kind, 1, head) for kind in ("encoder", "decoder", "cross") for head in (0, 1)
    }
    # Window 2 of 6 tokens is the first half of the store's second.
    source = WINDOWS[1:2, :3]
    batch = {"encoder_input_tokens": source, "encoder_segment_ids": np.ones_like(source)}
    batch["decoder_input_tokens"] = shifted(WINDOWS[1:2, 3:6])
    seen = model.compiled(lambda model, batch: observed(model, batch)[AttentionSite("cross", 1)].weights)(batch)
    np.testing.assert_allclose(shown[AttentionSite("cross", 1), 1], seen[0, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(layers=(7,)), "--layers: tiny has layers 0 to 2, not 7"),
        (dict(heads=(2,)), "--heads: tiny has heads 0 to 1, not 2"),
        (dict(example=3), "--example=3: there are windows 0 to 2"),
        (dict(rank_threshold=1.0), "--rank_threshold=1: expected from 1e-5 to less than 1"),
        (dict(length=99), "not one window of 99"),
        (dict(max_windows=0), "--max_windows=0: expected a whole number from 1 on"),
        (dict(split="test"), "no split 'test'"),
    ],
)
def test_bad_options(changes, message, store):
    with pytest.raises(UserError, match=message):
        analyse(loaded(tiny.REDLLM), store, dataclasses.replace(OPTIONS, **changes))

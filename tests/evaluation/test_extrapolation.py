"""Losses by length equal those of the truncated texts, each computed by itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.evaluation import domains
from tests.evaluation.test_held_out import CAUSAL, ENCODER, PREFIX, loaded, nats, shifted
from tests.models import tiny
from tests.models.reference import Reference
from triarch.errors import UserError
from triarch.evaluation.extrapolation import LengthOptions, extrapolate
from triarch.evaluation.joined import join_windows

# Four windows of 12 tokens make two of 24.
TEXT = domains.random_windows(5, seed=4)
LONG = TEXT[:4].reshape(2, 24)
OPTIONS = LengthOptions(lengths=(6, 15, 24), prefixes=(1, 9), batch_size=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return domains.write_domain(tmp_path_factory.mktemp("text") / "text", TEXT).store


def truncated(config, text: np.ndarray, prefix: int, bidirectional: bool = False) -> np.ndarray:
    """Returns the nats of what follows the prefix of one text, by the plain transcription."""
    reference = Reference(config, tiny.parameters(config))
    if config.architecture == "encoder-decoder":
        return nats(reference.logits(text[:prefix], shifted(text[None, prefix:])[0]), text[prefix:])
    # What is read is shifted: the first target's place is that of the last token given.
    seen = prefix + 1 if bidirectional else 0
    return nats(reference.logits(None, shifted(text[None])[0], seen), text)[prefix:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "objective"),
    [
        pytest.param(tiny.REDLLM, PREFIX, id="encoder-decoder"),
        pytest.param(tiny.DECLLM, CAUSAL, id="decoder-only"),
        pytest.param(
            tiny.DECLLM, PREFIX | {"bidirectional_prefix": True}, id="bidirectional prefix", marks=pytest.mark.slow
        ),
    ],
)
def test_every_length_equals_its_truncated_text(config, objective, store):
    losses, positions = extrapolate(loaded(config, objective), store, OPTIONS)
    assert [(loss.prefix, loss.length) for loss in losses] == [(1, 6), (1, 15), (1, 24), (9, 15), (9, 24)]
    both_ways = objective.get("bidirectional_prefix", False)
    for found in losses:
        each = [truncated(config, text[: found.length], found.prefix, both_ways) for text in LONG]
        assert found.nats_per_token == pytest.approx(np.mean(each), rel=3e-6)
        assert found.standard_error == pytest.approx(np.std(np.mean(each, axis=1), ddof=1) / np.sqrt(2), rel=1e-4)
        assert (found.num_tokens, found.num_windows) == (2 * (found.length - found.prefix), 2)
        targets = LONG[:, found.prefix : found.length]
        assert found.num_bytes == domains.TOKEN_BYTES[targets].astype(int).sum()
    # A stretch is one token here.
    for prefix in (1, 9):
        own = [place for place in positions if place.prefix == prefix]
        assert [(place.first, place.last) for place in own] == [(i, i) for i in range(prefix, 24)]
        means = np.mean([truncated(config, text, prefix, both_ways) for text in LONG], axis=0)
        np.testing.assert_allclose([place.nats_per_token for place in own], means, rtol=3e-6)


def test_an_encoder_sees_each_length_whole(store):
    options = dataclasses.replace(OPTIONS, lengths=(6, 24), pseudo_positions=None)
    losses, positions = extrapolate(loaded(ENCODER), store, options)
    assert positions == [] and [(loss.scoring, loss.prefix) for loss in losses] == [("pseudo_likelihood", None)] * 2
    reference = Reference(ENCODER, tiny.parameters(ENCODER))
    for found in losses[:1]:
        each = []
        for text in LONG[:, : found.length]:
            for place in range(1, found.length):
                masked = np.where(np.arange(found.length) == place, domains.SPECIAL["mask"], text)
                each.append(nats(reference.logits(None, masked), text)[place])
        assert found.nats_per_token == pytest.approx(np.mean(each), rel=3e-6)
    assert losses[1].num_tokens == 2 * 23


def test_windows_are_joined_without_a_gap(store):
    flat = TEXT.reshape(-1)
    for length in (5, 12, 17, 60):
        windows = join_windows(store, "validation", length)
        assert len(windows) == 60 // length
        joined = np.concatenate([windows[index]["tokens"] for index in range(len(windows))])
        np.testing.assert_array_equal(joined, flat[: len(joined)])


def test_stores_that_do_not_serve(store, tmp_path):
    with pytest.raises(
        UserError, match=r"text: split 'validation' holds 60 tokens \(5 windows of 12\), not one window of 61"
    ):
        join_windows(store, "validation", 61)
    packed = domains.write_domain(tmp_path / "packed", TEXT, segments=np.ones_like(TEXT)).store
    with pytest.raises(
        UserError, match="packed: its layout is 'packed', but windows of 24 tokens are cut out of running"
    ):
        extrapolate(loaded(tiny.DECLLM), packed, OPTIONS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(lengths=(24, 6)), "--lengths=24,6: expected numbers of tokens from 2 on, ascending"),
        (dict(lengths=()), "--lengths=: expected"),
        (dict(prefixes=(0, 1)), "--prefixes=0,1: expected numbers of tokens from 1 on, ascending"),
        (dict(prefixes=(24,)), "--prefixes=24: nothing is left to score of the greatest length, 24 tokens"),
        (dict(max_windows=0), "--max_windows=0: expected a whole number from 1 on"),
        (dict(pseudo_positions=0), "--pseudo_positions=0: expected a whole number from 1 on"),
        (dict(seed=-1), "--seed=-1: expected a whole number from 0 to 4,294,967,295"),
    ],
)
def test_bad_options(changes, message, store):
    with pytest.raises(UserError, match=message):
        extrapolate(loaded(ENCODER), store, dataclasses.replace(OPTIONS, **changes))


@pytest.mark.parametrize(
    ("config", "needed"), [(tiny.GPT2, "24"), (tiny.BERT, "24"), (tiny.BART, "23")], ids=["gpt2", "bert", "bart"]
)
def test_places_that_no_table_has(config, needed, store):
    short = dataclasses.replace(config, vocab_size=domains.VOCAB_SIZE, learned_positions=20)
    objective = {"decoder-only": CAUSAL, "encoder-decoder": PREFIX}.get(config.architecture, {"class": "MaskedLM"})
    places = 20 - config.learned_position_offset
    message = f"tiny has learned positions for {places} tokens a side, and a total of 24 needs {needed}"
    with pytest.raises(UserError, match=message):
        extrapolate(loaded(short, objective), store, OPTIONS)

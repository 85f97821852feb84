"""Stores of whole documents and of pairs give the losses of each document by itself."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation import domains
from tests.evaluation.test_held_out import ENCODER, TRAINED, loaded, nats, shifted
from tests.models import tiny
from tests.models.reference import Reference
from triarch.errors import UserError
from triarch.evaluation import Options, evaluate

# Documents of even length, cut in the middle; padding in the second row.
ROWS = ((4, 8), (6, 2))
LENGTHS = {"inputs": 5, "targets": 7}


def document(length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(4, domains.VOCAB_SIZE, length, dtype=np.int32)


def laid_out(rows) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens and segment ids int32[rows, window] of rows of documents."""
    tokens = np.zeros((len(rows), domains.WINDOW), np.int32)
    segments = np.zeros_like(tokens)
    for i, parts in enumerate(rows):
        joined = np.concatenate(parts)
        tokens[i, : len(joined)] = joined
        segments[i, : len(joined)] = np.repeat(np.arange(len(parts)) + 1, [len(part) for part in parts])
    return tokens, segments


PACKED = [[document(length, 10 * i + length) for length in row] for i, row in enumerate(ROWS)]
PAIRS = [(document(n, n), document(m, 20 + m)) for n, m in ((5, 7), (2, 3), (3, 1))]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts")
    packed = domains.write_domain(folder / "packed", *_with_segments(PACKED))
    pairs = domains.write_domain(folder / "pairs", *_with_segments(PAIRS), lengths=LENGTHS)
    # The second and the third share a row.
    rows = _with_segments([PAIRS[0], (*PAIRS[1], *PAIRS[2])])
    packed_pairs = domains.write_domain(folder / "packed_pairs", *rows, lengths=LENGTHS, layout="packed_pairs")
    return {"packed": packed, "pairs": pairs, "packed_pairs": packed_pairs}


def _with_segments(rows):
    tokens, segments = laid_out(rows)
    return tokens, "in_domain", None, domains.FINGERPRINT, segments


def given(config, source: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the nats of `targets` after `source`, by the plain transcription on that one text."""
    reference = Reference(config, tiny.parameters(config))
    if config.architecture == "encoder-decoder":
        return nats(reference.logits(source, shifted(targets[None])[0]), targets)
    text = np.concatenate([source, targets])
    if config.architecture == "decoder-only":
        return nats(reference.logits(None, shifted(text[None])[0]), text)[len(source) :]
    losses = []
    for place in range(len(source), len(text)):
        masked = np.where(np.arange(len(text)) == place, domains.SPECIAL["mask"], text)
        losses.append(nats(reference.logits(None, masked), text)[place])
    return np.array(losses)


@pytest.mark.parametrize("layout", ["packed", "pairs", "packed_pairs"])
@pytest.mark.parametrize("config", TRAINED, ids=lambda config: config.architecture)
def test_paired_losses_are_those_of_separate_texts(config, layout, stores):
    options = Options(scoring=["paired"], pseudo_positions=None, batch_size=5)
    (found,) = evaluate(loaded(config), [stores[layout]], options)
    texts = PAIRS if "pairs" in layout else [np.split(text, 2) for row in PACKED for text in row]
    losses = np.concatenate([given(config, *text) for text in texts])
    targets = np.concatenate([targets for _, targets in texts])
    assert found.scoring == ("pseudo_likelihood" if config is ENCODER else "paired")
    assert found.nats_per_token == pytest.approx(losses.mean(), rel=3e-6)
    assert (found.num_tokens, found.num_bytes) == (len(targets), domains.TOKEN_BYTES[targets].astype(int).sum())
    assert found.num_windows == (3 if layout == "pairs" else 2)


def test_native_loss_of_packed_documents_is_that_of_separate_ones(stores):
    (found,) = evaluate(loaded(tiny.DECLLM), [stores["packed"]], Options(scoring=["native"]))
    texts = [text for row in PACKED for text in row]
    losses = [given(tiny.DECLLM, text[:0], text) for text in texts]
    assert found.nats_per_token == pytest.approx(np.concatenate(losses).mean(), rel=3e-6)
    # Rows are what is sampled: the delta method by hand.
    rows = [np.concatenate(losses[:2]), np.concatenate(losses[2:])]
    residuals = np.array([row.sum() - found.nats_per_token * len(row) for row in rows])
    assert found.standard_error == pytest.approx(np.sqrt(2 * (residuals**2).sum()) / sum(map(len, rows)), rel=1e-4)


def test_native_scoring_is_left_out_where_it_makes_no_sense(stores):
    model = loaded(tiny.DECLLM)
    assert [found.scoring for found in evaluate(model, [stores["pairs"]])] == ["paired"]
    with pytest.raises(
        UserError, match="pairs: its layout is 'pairs', but objective causal_lm reads windows or packed"
    ):
        evaluate(model, [stores["pairs"]], Options(scoring=["native"]))


def test_a_model_tuned_on_pairs_reads_pairs_of_other_lengths(stores):
    tuned = loaded(tiny.REDLLM, {"class": "Supervised", "inputs_length": 30, "targets_length": 10})
    paired, native = evaluate(tuned, [stores["pairs"]])
    assert (paired.scoring, native.scoring) == ("paired", "native")
    assert native.nats_per_token == paired.nats_per_token

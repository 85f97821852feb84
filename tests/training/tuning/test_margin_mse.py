"""Margin-MSE: the losses of sentence-transformers, and what a store without a teacher's scores is told."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

import triarch
from tests.models import tiny as models
from tests.objectives.test_contrast import MODELS, SPECIAL, vectors
from tests.prepare.test_groups import prepare, rows_of, write_rows
from tests.training import tiny
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.interchange.embedder import Embedder
from triarch.models import Network
from triarch.objectives import Contrast, MarginMSE
from triarch.training import DataConfig, train
from triarch.training.inputs import open_inputs


def scored(count, seed=0):
    rng = np.random.default_rng(seed)
    for row in rows_of(count):
        first, second = rng.normal(size=2).round(3).tolist()
        yield row | {"of_positive": first, "of_negative": second, "both": [first, second], "margin": first - second}


def test_three_ways_of_writing_scores_are_one_store(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", scored(40))
    for name in ("of_positive,of_negative", "both", "margin"):
        assert prepare(path, tmp_path / name, "--negative_fields=negative", f"--score_fields={name}") == 0
    stores = [TokenStore.open(tmp_path / name) for name in ("of_positive,of_negative", "both", "margin")]
    readers = [store.split("train") for store in stores]
    wanted = {f"{row['query']}"[:8]: row["margin"] for row in scored(40)}
    tokenizer = triarch.tokenizers.ByteTokenizer()
    for number in range(len(readers[0])):
        examples = [reader[number] for reader in readers]
        query = tokenizer.decode(examples[0]["tokens"][examples[0]["segment_ids"] == 1])
        for example in examples:
            np.testing.assert_allclose(example["label"], [wanted[query]], rtol=1e-6)
    # The ranking objective reads such a store as any other.
    bound = Contrast(8, 20, 1).bind("encoder-only", SPECIAL, 260, 48)
    assert "label" not in bound.features(readers[0][0], np.random.default_rng(0))


@pytest.mark.parametrize(
    "changes, flags, message",
    [
        ({"margin": None}, ["--score_fields=margin"], "rows.jsonl:1: field 'margin' is 'None', expected a number"),
        ({"margin": "high"}, ["--score_fields=margin"], "field 'margin' is 'high', expected a number"),
        ({"margin": float("nan")}, ["--score_fields=margin"], "field 'margin' is 'nan', expected a number"),
        ({"both": [1, 2, 3]}, ["--score_fields=both"], "field 'both' holds 3 scores, expected 2 or, of differences, 1"),
        ({}, ["--score_fields=scores"], "rows.jsonl:1: no field 'scores'"),
        (
            {},
            ["--score_fields=a,b,c"],
            "a,b,c: expected 2 fields, of the passage and of 1 hard negatives",
        ),
    ],
)
def test_what_is_no_score_is_one_line(tmp_path, capsys, changes, flags, message):
    path = write_rows(tmp_path / "rows.jsonl", [row | changes for row in scored(1)])
    flags = [*flags, "--validation_fraction=0", "--negative_fields=negative"]
    assert prepare(path, tmp_path / "store", *flags) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "store").exists()


def test_scores_without_negatives_and_a_store_without_scores(tmp_path, capsys):
    path = write_rows(tmp_path / "rows.jsonl", scored(30))
    assert prepare(path, tmp_path / "none", "--score_fields=both") == 1
    assert "scores are compared with those of hard negatives" in capsys.readouterr().err
    assert prepare(path, tmp_path / "store", "--negative_fields=negative", "--validation_fraction=0") == 0
    model = tiny.model("encoder-only", vocab_size=260)
    data = DataConfig(48, str(tmp_path / "store"))
    config = tiny.run_config("", model=model, objective=MarginMSE(8, 20, 1), data=data)
    with pytest.raises(UserError, match="store: its rows have no scores of a teacher, which MarginMSE learns"):
        open_inputs(config)


@pytest.mark.slow
def test_the_loss_is_that_of_float64():
    architecture, similarity = "decoder-only", "cosine"
    objective = MarginMSE(4, 6, 2, similarity=similarity)
    bound = objective.bind(architecture, SPECIAL, 20, objective.group_window)
    rng = np.random.default_rng(0)
    examples = []
    for _ in range(4):
        segments = np.repeat([1, 2, 3, 4], [4, 6, 6, 6]).astype(np.int32)
        tokens = rng.integers(4, 20, 22).astype(np.int32)
        examples.append({"tokens": tokens, "segment_ids": segments, "label": rng.normal(size=2).astype(np.float32)})
    made = [bound.features(one, rng) for one in examples]
    batch = {name: np.stack([one[name] for one in made]) for name in made[0]}
    network = Network(MODELS[architecture], models.FLOAT32)
    params = network.init(0)

    def loss(params, chunk):
        changed = dataclasses.replace(bound, objective=dataclasses.replace(objective, chunk=chunk))
        return changed.loss(network.merge(params), batch)[0]

    parts = [batch[f"{side}_{name}"] for side in ("query", "passage") for name in ("input_tokens", "segment_ids")]
    queries = vectors(network, params, architecture, *parts[:2], objective)
    passages = vectors(network, params, architecture, *parts[2:], objective).reshape(4, 3, -1)
    scores = np.einsum("qd,qgd->qg", queries, passages)
    wanted = np.square(scores[:, :1] - scores[:, 1:] - batch["label"]).sum()
    (total, gradient), (cached, of_cached) = (
        jax.jit(jax.value_and_grad(loss), static_argnums=1)(params, chunk) for chunk in (0, 2)
    )
    assert float(total) == pytest.approx(wanted, rel=1e-4) and float(bound.weight(batch)) == 8
    assert float(cached) == pytest.approx(float(total), rel=1e-5)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(of_cached), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5 * max(float(np.abs(one).max()), 1))


@pytest.mark.slow
def test_twenty_steps_are_those_of_sentence_transformers(tmp_path):
    """MarginMSELoss of a BERT without dropout: the same weights, rows, order and AdamW; in microbatches the same."""
    library = pytest.importorskip("sentence_transformers")
    pytest.importorskip("transformers")
    from sentence_transformers.sentence_transformer.losses import MarginMSELoss

    from tests.training.tuning.contrastive_parity import of_bert, steps_of_library

    body, rng = of_bert(tmp_path), np.random.default_rng(0)
    rows = [{**row, "scores": rng.normal(size=2).tolist()} for row in body.rows(160)]
    config = body.config(rows, MarginMSE(14, 14, 1), "--score_fields=scores")
    train(config, tmp_path / "run", "")
    parts = dataclasses.replace(config, microbatches=2)
    train(parts, tmp_path / "parts", "")
    model = library.SentenceTransformer(str(body.folder), device="cpu")
    wanted = steps_of_library(body, config, model, MarginMSELoss(model), with_labels=True)
    ours, in_parts = tiny.losses(tmp_path / "run"), tiny.losses(tmp_path / "parts")
    assert ours[1] == pytest.approx(wanted[0], rel=1e-5)
    for step, value in enumerate(wanted, 1):
        assert ours[step] == pytest.approx(value, rel=1e-4)
        assert in_parts[step] == pytest.approx(value, rel=1e-4)
    assert triarch.load(tmp_path / "run").embedder() == Embedder("mean", False, "dot")

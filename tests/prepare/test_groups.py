"""Queries, passages and hard negatives, from rows to a store and to a model that was trained on it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import triarch
from tests.training import tiny
from triarch.cli.main import main
from triarch.data.store import TokenStore
from triarch.interchange.embedder import Embedder
from triarch.objectives import Contrast
from triarch.tokenizers import ByteTokenizer
from triarch.training import DataConfig, train

WORDS = ["red", "blue", "green", "grey", "pink", "gold", "teal", "lime"]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(count, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(count):
        one, other = rng.choice(WORDS, 2, replace=False)
        yield {"query": f"{one} {number}", "positive": f"all about {one} {number}", "negative": f"about {other}"}


def prepare(path, output, *flags):
    given = ["--task=groups", f"--files={path}", f"--output={output}", "--passage_field=positive"]
    return main(["prepare", *given, "--vocabulary=bytes", "--max_query=8", "--max_passage=20", *flags])


@pytest.mark.slow
def test_from_rows_to_a_model_that_embeds_as_it_was_trained(tmp_path, capsys):
    path = write_rows(tmp_path / "rows.jsonl", rows_of(200))
    flags = ["--negative_fields=negative", "--query_prompt=q ", "--validation_fraction=0.2"]
    assert prepare(path, tmp_path / "store", *flags) == 0
    assert "queries of 8 tokens, passages of 20, 1 hard negatives" in capsys.readouterr().out
    store = TokenStore.open(tmp_path / "store")
    example = store.split("train")[0]
    texts = [ByteTokenizer().decode(example["tokens"][example["segment_ids"] == number]) for number in (1, 2, 3)]
    cut = [(f"q {row['query']}"[:8], row["positive"][:20], row["negative"][:20]) for row in rows_of(200)]
    assert tuple(texts) in cut
    model = tiny.model("encoder-only", vocab_size=260)
    objective = Contrast(8, 20, 1, pooling="cls", chunk=4)
    data = DataConfig(48, str(store.path))
    config = tiny.run_config("", model=model, objective=objective, data=data, eval_every=6, eval_batches=2)
    train(config, tmp_path / "run", "")
    losses = tiny.losses(tmp_path / "run")
    assert losses[12] < losses[1]
    loaded = triarch.load(tmp_path / "run")
    assert loaded.embedder() == Embedder("cls", True, "cosine")
    special = loaded.special
    text = "red 7"
    ids = [special.bos, *loaded.tokenize(text), special.eos]
    batch = {"encoder_input_tokens": np.array([ids]), "encoder_segment_ids": np.ones((1, len(ids)), np.int32)}
    state = np.asarray(loaded.model.text_states(batch))[0, 0]
    np.testing.assert_allclose(loaded.embed(text), state / np.linalg.norm(state), atol=1e-5)
    assert main(["order", str(tmp_path / "run"), "--steps=0:1"]) == 0
    assert "rows.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize(
    "row, flags, message",
    [
        ({"query": "a", "positive": " "}, [], "rows.jsonl:1: field 'positive' is empty: expected a text"),
        ({"query": "a", "passage": "b"}, [], "rows.jsonl:1: no field 'positive'"),
        ({"query": "a", "positive": 3}, [], "field 'positive' is int, expected a string"),
        ({"query": "a", "positive": "b", "n": "b"}, ["--negative_fields=n"], "a hard negative is the passage itself"),
        (
            {"query": "a", "positive": "b", "n": ["c"]},
            ["--negative_fields=n", "--num_negatives=2"],
            "field 'n' holds 1, expected a list of at least 2 texts",
        ),
        ({"query": "a", "positive": "b"}, ["--num_negatives=2"], "of one field in --negative_fields"),
        ({"query": "a", "positive": "b"}, ["--max_query=0"], "--max_query=0: expected at least 1"),
        ({"query": "a", "positive": "b"}, ["--window=64"], "--window has no effect on --task=groups"),
    ],
)
def test_what_is_no_group_is_one_line(tmp_path, capsys, row, flags, message):
    path = write_rows(tmp_path / "rows.jsonl", [row])
    assert prepare(path, tmp_path / "store", "--validation_fraction=0", *flags) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_a_list_of_negatives_and_bad_rows_that_are_skipped(tmp_path):
    rows = [{"query": "a", "positive": "b", "n": ["c", "d", "e"]}, {"query": "", "positive": "b", "n": ["c", "d"]}]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    flags = ["--negative_fields=n", "--num_negatives=2", "--skip_bad_records", "--validation_fraction=0"]
    assert prepare(path, tmp_path / "store", *flags) == 0
    store = TokenStore.open(tmp_path / "store")
    assert store.manifest.source["left_out"]["empty"]["count"] == 1
    example = store.split("train")[0]
    assert ByteTokenizer().decode(example["tokens"][example["segment_ids"] > 0]) == "abcd"

"""From rows with labels to a classifier, its metrics and its head in an export."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tests.training import tiny
from triarch.cli.main import main
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.evaluation.classification import classify
from triarch.evaluation.label_metrics import label_metrics
from triarch.interchange import read_export, write_export
from triarch.loading import load
from triarch.models.network import flatten
from triarch.objectives import Classify, ClassifyTokens
from triarch.prepare.labelled import LabelledFiles, prepare_labelled
from triarch.prepare.vocabulary_choice import VocabularyChoice
from triarch.training import CheckpointConfig, train
from triarch.training.config import validate
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant
from triarch.training.run import assemble
from triarch.training.starting_point import open_starting_point

pytest.importorskip("sklearn")

WINDOW = 12


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Texts whose class says which letter they have, and numbers that say how many."""
    folder, rng = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0)
    texts = ["".join(rng.permutation(list("b" * number + "c" * (8 - number)))) for number in rng.integers(0, 9, 96)]
    rows = [{"text": text, "many": int(text.count("b") > 4), "share": text.count("b") / 8} for text in texts]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = {}
    for field, regression in (("many", False), ("share", True)):
        files = LabelledFiles({"train": (str(folder / "rows.jsonl"),)}, "text", field, regression=regression)
        made[field] = prepare_labelled(files, field, folder / field, VocabularyChoice("bytes"), WINDOW, 0.25)
    return made


def config(store: TokenStore, architecture: str, objective, **changes):
    """Returns a short run on a labelled store."""
    found = tiny.run_config(store.path, architecture, objective=objective, optimizer=AdamW(Constant(3e-3)), **changes)
    data = dataclasses.replace(found.data, window=WINDOW)
    model = dataclasses.replace(found.model, vocab_size=max(found.model.vocab_size, store.manifest.vocabulary.size))
    return dataclasses.replace(found, data=data, model=model, batch_size=16)


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture",
    ["encoder-only", *(pytest.param(name, marks=pytest.mark.slow) for name in ("decoder-only", "encoder-decoder"))],
)
def test_it_learns_and_keeps_the_best(architecture, stores, tmp_path):
    best = CheckpointConfig(keep_best="validation/f1")
    run = config(stores["many"], architecture, Classify(), steps=45, eval_every=15, checkpoint=best)
    summary = train(run, tmp_path / "run", "")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    found = {line["step"]: line["validation/f1"] for line in lines if "validation/f1" in line}
    assert sorted(found) == [15, 30, 45]
    assert max(found.values()) > 0.8
    assert found[summary["best_step"]] == max(found.values())
    model = load(tmp_path / "run", step="best")
    told = classify(model, stores["many"], "validation", batch_size=7)
    assert told.f1 == pytest.approx(found[summary["best_step"]], abs=1e-9)
    assert told.pearson is None and told.num_examples == len(stores["many"].split("validation"))

    write_export(tmp_path / "export", model.model, model.origin, make_head=model.network.make_head)
    again = read_export(tmp_path / "export")
    assert flatten(again.params).keys() == flatten(model.params).keys()
    assert classify(again, stores["many"], "validation") == told
    with pytest.raises(UserError, match=r"run predicts no tokens: it was trained to tell labels \(Classify\), not tok"):
        model.logits({})
    with pytest.raises(UserError, match=r"its labels are numbers, and Classify expects classes: learn them with Class"):
        classify(model, stores["share"], "validation")


@pytest.mark.slow
def test_a_pipeline_reads_the_export_of_a_classifier_with_a_vocabulary_of_ours(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    rows = [
        (f"a {word} film, number {number}", kind) for number in range(40) for kind, word in enumerate(("dull", "fine"))
    ]
    (tmp_path / "rows.tsv").write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    sizes = dict(num_encoder_layers=2, d_model=32, d_ff=32, num_heads=2, head_dim=16, vocab_size=264)
    for words in (
        [
            *("prepare", "--task=files", f"--files={tmp_path}/rows.tsv", "--layout=labelled", "--label_field=label"),
            *("--label_names=negative,positive", "--vocabulary=bytes", "--window=48", f"--output={tmp_path}/store"),
        ],
        [
            *("train", "--gin_file=runs/classify.gin", "--gin_file=models/ettin_encoder/laptop_xs.gin"),
            *(f"--gin.ModelConfig.{name}={value}" for name, value in sizes.items()),
            *(f"--gin.DataConfig.store='{tmp_path}/store'", f"--workdir={tmp_path}/run", "--gin.DataConfig.window=48"),
            *("--gin.RunConfig.steps=60", "--gin.RunConfig.batch_size=16", "--gin.Cosine.peak=3e-3"),
        ],
        ["export", f"--workdir={tmp_path}/run", "--format=huggingface", f"--output={tmp_path}/export"],
    ):
        assert main(words) == 0
    pipe = transformers.pipeline("text-classification", model=str(tmp_path / "export"))
    told = [found["label"] for found in pipe([text for text, _ in rows])]
    assert told == [("negative", "positive")[label] for _, label in rows]


@pytest.mark.slow
def test_numbers_are_learnt_and_heads_of_other_shapes_are_fresh(stores, tmp_path):
    values = Classify(num_labels=1, regression=True, pooling="mean", head="tanh")
    run = config(stores["share"], "encoder-only", values, steps=60, eval_every=60)
    train(run, tmp_path / "values", "")
    assert classify(load(tmp_path / "values"), stores["share"], "validation").pearson > 0.8
    other = dataclasses.replace(run, objective=Classify(num_labels=2, head="tanh"), init_from=str(tmp_path / "values"))
    other = dataclasses.replace(other, data=dataclasses.replace(other.data, store=str(stores["many"].path)))
    inputs = open_inputs(other)
    start = open_starting_point(other, inputs.stores[0])
    begun, before = (
        flatten(assemble(other, inputs).initial_state(start).params),
        flatten(load(tmp_path / "values").params),
    )
    np.testing.assert_array_equal(begun["head/dense"], before["head/dense"])
    assert begun["head/output"].shape == (16, 2)


def test_metrics_are_those_of_the_definitions():
    told, labels = np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 1])
    found = label_metrics("classes", 2, told, labels)
    assert found["accuracy"] == 0.6 and found["f1"] == pytest.approx(2 / 3)
    assert found["matthews"] == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))
    rng = np.random.default_rng(0)
    values, so = rng.normal(size=20), rng.normal(size=20)
    found = label_metrics("values", 1, values, so)
    assert found["pearson"] == pytest.approx(np.corrcoef(values, so)[0, 1])
    ranks = [np.argsort(np.argsort(one)) for one in (values, so)]
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert found["accuracy"] is None
    assert label_metrics("values", 1, np.ones(20), so)["pearson"] is None


REFUSED = {
    "one class": (Classify(num_labels=1), r"Classify.num_labels = 1: one class is always right"),
    "other weights": (Classify(class_weights=(1.0,)), r"Classify.class_weights = \(1.0,\): expected 2 numbers"),
    "a pooling": (Classify(pooling="max"), r"Classify.pooling = 'max'"),
    "a head": (Classify(head="tan"), r"Classify.head = 'tan' \(did you mean 'tanh'\?\)"),
    "numbers": (Classify(num_labels=1, regression=True), "many: its labels are classes, and Classify expects numbers"),
    "other classes": (Classify(num_labels=3), r"many: has 2 labels \(0, 1\), but Classify.num_labels is 3"),
    "words": (ClassifyTokens(), "many: its labels are classes, and ClassifyTokens expects classes of tokens"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_one_clear_line(name, stores):
    objective, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as raised:
        open_inputs(config(stores["many"], "encoder-only", objective))
    assert "\n" not in str(raised.value)


def test_a_metric_must_be_one_of_its_labels(stores):
    best = CheckpointConfig(keep_best="validation/pearson")
    with pytest.raises(UserError, match="'validation/pearson': expected validation/accuracy or validation/f1"):
        validate(config(stores["many"], "encoder-only", Classify(), eval_every=1, checkpoint=best))

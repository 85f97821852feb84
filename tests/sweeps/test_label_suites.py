"""A suite of labelled tasks by `triarch sweep`: grids, what begins from what, the tables; and its one-line mistakes."""

from __future__ import annotations

import csv
import dataclasses
import json
import statistics
from pathlib import Path

import numpy as np
import pytest

from tests.training import tiny
from triarch.cli.gin import files as gin_files
from triarch.cli.main import main
from triarch.errors import UserError
from triarch.sweeps.tuning import grid, scores
from triarch.sweeps.tuning.suite import LabelSuite, LabelTask
from triarch.training import DataConfig, train

FIRST = LabelTask("first", "first.gin", "a", "b", others=("other=c",), epochs=(1, 2), learning_rates=(1e-4, 2e-4))
SECOND = LabelTask("second", "second.gin", "a", "b", begins_from="first", metrics=("accuracy", "f1"))
SUITE = LabelSuite("title", "data", ("exports/one", "exports/two"), (FIRST, SECOND), seeds=(1, 2))


def _result(folder, run, split, **metrics):
    path = grid.result_file(folder, run, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"num_examples": 10, **metrics}))


def test_the_best_setting_is_chosen_and_begun_from(tmp_path):
    first, second = (list(grid.tuning_runs(SUITE, later)) for later in (False, True))
    assert len(first) == 2 * 2 * 2 * 2 and len(second) == 2 * 2
    assert len({run.name for run in first + second}) == len(first + second)
    values = {(1e-4, 1): 0.5, (1e-4, 2): 0.6, (2e-4, 1): 0.8, (2e-4, 2): 0.7}
    for run in first:
        value = values[run.learning_rate, run.epochs] + 0.02 * run.seed
        _result(tmp_path, run, "validation", accuracy=value)
        _result(tmp_path, run, "other", accuracy=value - 0.1)
    for run in second:
        _result(tmp_path, run, "validation", accuracy=0.5, f1=0.1 * run.seed)
    found = scores.scores_by_setting(first, tmp_path)
    begins = grid.beginning(SUITE, second[0], tmp_path, found)
    assert begins == str(tmp_path / "runs" / "one_first_lr0.0002_1ep_1")
    assert grid.beginning(SUITE, first[0], tmp_path, found) == "exports/one"
    with pytest.raises(UserError, match="second: begins from first, which has no result yet for one"):
        grid.beginning(SUITE, second[0], tmp_path, {})
    tables = scores.suite_tables(first + second, tmp_path)
    chosen = [row for row in tables.settings if row["chosen"]]
    assert len(chosen) == 4 and (chosen[0]["learning_rate"], chosen[0]["epochs"]) == ("0.0002", "1")
    assert chosen[0]["score"] == pytest.approx(np.mean([0.82, 0.72, 0.84, 0.74]))
    assert chosen[0]["spread"] == pytest.approx(statistics.stdev([0.77, 0.79]))
    of_seeds = [(0.77 + (0.5 + 0.1) / 2) / 2, (0.79 + (0.5 + 0.2) / 2) / 2]
    (one, two) = tables.scores
    assert (one["tasks"], one["seeds"]) == (2, 2) and one["score"] == pytest.approx(two["score"])
    assert one["score"] == pytest.approx(np.mean(of_seeds))
    assert one["spread"] == pytest.approx(statistics.stdev(of_seeds))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(only=("third",)), r"LabelSuite.only = 'third': no such task \(one of: first, second"),
        (dict(only=("second",)), "LabelTask 'second': begins_from = 'first': expected a task that is run, too"),
        (dict(labels=("one",)), "LabelSuite.labels has 1 names for 2 models"),
        (dict(models=("a/one", "b/one")), "expected a name of its own for each model"),
        (dict(seeds=()), "LabelSuite.seeds is empty"),
        (dict(tasks=(dataclasses.replace(FIRST, metrics=("acc",)),)), r"metrics = 'acc' \(did you mean 'accuracy'"),
        (dict(tasks=(dataclasses.replace(FIRST, others=("train=c",)),)), "others = 'train=c': expected NAME=FILE"),
    ],
)
def test_what_cannot_be_a_suite_is_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SUITE, **changes).validate()


@pytest.mark.parametrize(("name", "settings"), [("glue", 1), ("glue_grid", 48)])
def test_glue_has_its_eight_tasks(name, settings):
    gin_files.parse([f"suites/{name}.gin"], ["LabelSuite.data='glue'", "LabelSuite.models=('exports/one',)"])
    suite = gin_files.build("LabelSuite")
    suite.validate()
    assert [task.name for task in suite.tasks if task.begins_from] == ["rte", "mrpc", "stsb"]
    runs = [*grid.tuning_runs(suite, False), *grid.tuning_runs(suite, True)]
    assert len(runs) == 8 * 3 * settings
    assert suite.tasks[0].splits == ("validation", "mismatched")
    for task in suite.tasks:
        assert Path(gin_files.find(task.recipe)).is_file()


@pytest.mark.slow
def test_a_suite_from_files_to_its_tables(tmp_path, capsys):
    """Two tasks, the second of which begins from the first; run again nothing is trained anew."""
    pytest.importorskip("sklearn")
    rows = ["text\tlabel", *(f"{word} {number}\t{word == 'good'}" for number in range(24) for word in ("good", "bad"))]
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    store = tmp_path / "store"
    (tmp_path / "text.txt").write_text("\n".join(rows))
    made = [
        f"--files={tmp_path / 'text.txt'}",
        "--documents=line",
        "--vocabulary=bytes",
        "--window=24",
        "--validation_fraction=0",
    ]
    assert main(["prepare", "--task=files", *made, f"--output={store}"]) == 0
    model, data = tiny.model("encoder-only", vocab_size=260), DataConfig(24, str(store))
    train(tiny.run_config("", "encoder-only", model=model, data=data, steps=8), tmp_path / "body", "")
    (tmp_path / "suite.gin").write_text(
        "LabelSuite.title = 'two'\nLabelSuite.tasks = (@one/LabelTask(), @two/LabelTask())\n"
        "LabelSuite.window = 24\nLabelSuite.evaluations = 1\nLabelSuite.seeds = (1, 2)\n"
        "LabelTask.recipe = 'runs/glue/sst2.gin'\nLabelTask.train = 'train.tsv'\nLabelTask.validation = 'dev.tsv'\n"
        "LabelTask.text_field = 'text'\nLabelTask.epochs = (1,)\n"
        "one/LabelTask.name = 'one'\ntwo/LabelTask.name = 'two'\ntwo/LabelTask.begins_from = 'one'\n"
    )
    sweep = ["sweep", f"--study={tmp_path / 'suite.gin'}", f"--gin.LabelSuite.data='{tmp_path}'",
             f"--gin.LabelSuite.models=('{tmp_path / 'body'}',)", f"--output={tmp_path / 'out'}"]  # fmt: skip
    assert main(sweep) == 0
    shown = capsys.readouterr().out
    assert "over 2 tasks, 2 seeds" in shown and "round 2: 2 runs, 0 finished" in shown
    config = json.loads((tmp_path / "out" / "runs" / "body_two_1ep_1" / "config.json").read_text())
    assert config["init_from"] == str(tmp_path / "out" / "runs" / "body_one_1ep_1")
    table = list(csv.DictReader((tmp_path / "out" / "settings.csv").open()))
    assert [(row["task"], row["seeds"], row["chosen"]) for row in table] == [("one", "2", "True"), ("two", "2", "True")]
    before = (tmp_path / "out" / "ledger.jsonl").read_text()
    assert main(sweep) == 0 and (tmp_path / "out" / "ledger.jsonl").read_text() == before
    capsys.readouterr()
    for flags, message in (
        (["--gin.LabelSuite.window=20"], "out: its runs were made with another window: choose another --output"),
        (["--gin.LabelSuite.data='none'"], "LabelSuite.data = 'none': no file none/train.tsv and 1 more"),
        (["--commands=x.sh"], "--commands: later runs of a suite begin from the best of earlier ones"),
    ):
        assert main([*sweep, *flags]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1

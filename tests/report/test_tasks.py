"""What a report shows of tasks along training, and of measured generation."""

from __future__ import annotations

import json
import math
import re
import shutil

import pytest

from tests.report.study_folder import write_study, write_table
from tests.report.test_page import Page
from triarch.errors import UserError
from triarch.report.page import render_report
from triarch.report.task_figures import task_panels
from triarch.report.tasks_table import at_step, read_tasks

HOSTILE = "<script>alert(1)</script>"
MEASURED = {
    "machine": "2 cores of " + HOSTILE, "batch": 8, "prompt": 128, "new_tokens": 64,
    "sides": {
        "decllm": {"parameters": 10, "flops": 1e9, "cache_bytes": 5, "prefill_tokens_per_second": 900.0,
                   "decode_tokens_per_second": 40.0, "new_tokens_per_second": 38.0},
        "llama (Hugging Face)": {"parameters": 10, "flops": None, "cache_bytes": None,
                                 "prefill_tokens_per_second": 700.0, "decode_tokens_per_second": 25.5,
                                 "new_tokens_per_second": 24.0},
    },
}  # fmt: skip


def task_rows():
    """A run of the study by its own numbers, one that is looked up, and one that nobody knows."""
    rows = []
    for run, architecture, scoring in (
        ("redllm-1m", "encoder-decoder", "log-likelihood"),
        ("decllm-4m", "decoder-only", "log-likelihood"),
        (HOSTILE, "encoder-only", "pseudo-log-likelihood (token)"),
    ):
        for step in (400, 100, 205):
            so_far = dict(tokens=7.0 * step, flops_paper=8.0 * step, flops_train=9.0 * step)
            rows.append(
                dict(model=run, run=run, architecture=architecture, scoring=scoring, step=step, num_params=5)
                | (so_far if run.startswith("redllm") else dict.fromkeys(so_far, ""))
                | dict(task="copa", metric="acc", filter="none", num_fewshot=2, num_examples=100)
                | dict(value=step / 1000, standard_error=0.05 if step > 100 else "")
            )
    return rows


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("tasks") / "study", sizes={"1m": 1e6, "4m": 4e6})
    (folder / "analysis").mkdir()
    write_table(folder / "analysis" / "tasks.csv", task_rows())
    (folder / "analysis" / "generation_throughput.json").write_text(json.dumps(MEASURED))
    return folder


def test_tasks_and_throughput_are_shown_and_escaped(study):
    report = render_report(study, bootstraps=0)
    page = Page(report.html)
    names = [panel.name for panel in report.panels]
    assert [name for name in names if name.startswith(("task", "through"))] == [
        "task-0-tokens", "task-0-flops-train", "throughput-prefill", "throughput-decode",
    ]  # fmt: skip
    assert sum(tag == "svg" for tag, _ in page.elements) == len(names)
    assert "<script>alert" not in report.html and "alert(1)" in "".join(page.text)
    text = " ".join("".join(page.text).split())
    assert "copa, acc, 2-shot" in text and "0.4000 \u00b1 0.0500" in text and "0.1000" not in text
    assert "64 tokens after prompts of 128, 8 at a time" in text


def test_lines_are_the_tables_numbers(study):
    report = render_report(study, bootstraps=0)
    (panel,) = [panel for panel in report.panels if panel.name == "task-0-tokens"]
    lines = {one.get_label(): one.lines[0] for one in panel.figure.axes[0].containers}
    assert list(lines) == ["decllm-4m", "redllm-1m"]
    assert lines["redllm-1m"].get_xdata().tolist() == [700.0, 1435.0, 2800.0]
    assert lines["redllm-1m"].get_ydata().tolist() == [0.1, 0.205, 0.4]
    # The study's runs read 1000 tokens a step.
    assert lines["decllm-4m"].get_xdata().tolist() == [100_000.0, 205_000.0, 400_000.0]
    assert lines["redllm-1m"].get_color() != lines["decllm-4m"].get_color()
    assert [row[0] for row in panel.rows].count("decllm-4m") == 3
    (decode,) = [panel for panel in report.panels if panel.name == "throughput-decode"]
    assert [bar.get_width() for bar in decode.figure.axes[0].patches] == [40.0, 25.5]
    assert "llama (Hugging Face),10,,,700,25.5,24" in decode.csv()


@pytest.fixture(scope="module")
def trained_on_tasks(tmp_path_factory):
    """A study without tables of tasks, whose runs evaluated a SeqIO task of two metrics every 200 steps."""
    folder = write_study(tmp_path_factory.mktemp("trained") / "study", sizes={"1m": 1e6}, families=("redllm", "decllm"))
    for number, family in enumerate(("redllm", "decllm")):
        path = folder / "runs" / f"{family}-1m" / "metrics.jsonl"
        lines = []
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if entry["step"] % 200 == 0:
                scale = entry["step"] / 200 + number
                entry |= {"glue_cola/matthews": -10.0 * scale, "glue_cola/accuracy": 25 * scale if number else None}
            lines.append(json.dumps(entry))
        # As a resumed run logs a step again: the last entry counts.
        path.write_text("\n".join([*lines[:20], lines[19].replace("-10.0", "-99.0"), *lines[19:]]) + "\n")
    return folder


def test_tasks_evaluated_in_training_are_shown(trained_on_tasks):
    report = render_report(trained_on_tasks, bootstraps=0)
    panels = {panel.title: panel for panel in report.panels if panel.name.startswith("task")}
    lines = {
        title: {one.get_label(): one.lines[0].get_xydata().tolist() for one in panel.figure.axes[0].containers}
        for title, panel in panels.items()
    }
    assert lines["glue_cola, matthews against training tokens read"] == {
        "redllm-1m": [[200_000.0, -10.0], [400_000.0, -20.0]],
        "decllm-1m": [[200_000.0, -20.0], [400_000.0, -30.0]],
    }
    assert list(lines["glue_cola, accuracy against training tokens read"]) == ["decllm-1m"]
    text = " ".join("".join(Page(report.html).text).split())
    last = r"glue_cola\s*matthews\s*\N{EN DASH}\s*\N{EN DASH}\s*-20.0000 \N{PLUS-MINUS SIGN} \N{EN DASH}\s*-30.0000"
    assert re.search(last, text)


def test_a_task_metric_that_is_no_number(trained_on_tasks, tmp_path):
    shutil.copytree(trained_on_tasks, tmp_path / "study")
    path = tmp_path / "study" / "runs" / "redllm-1m" / "metrics.jsonl"
    path.write_text(path.read_text().replace("-10.0", '"good"'))
    with pytest.raises(UserError, match=r"glue_cola/matthews is 'good', expected a number$"):
        render_report(tmp_path / "study", bootstraps=0)


def test_steps_where_nothing_else_is_known(study):
    points = [one for one in read_tasks(study / "analysis" / "tasks.csv") if one.run == HOSTILE]
    (panel,) = task_panels(points)
    (line,) = (one.lines[0] for one in panel.figure.axes[0].containers)
    assert panel.name == "task-0-step" and line.get_xdata().tolist() == [100.0, 205.0, 400.0]
    assert line.get_markerfacecolor() == "none"


def test_what_was_read_by_a_step():
    metrics = {"step": [10, 20], "tokens": [100, 220], "flops_paper": [1, 2], "flops_train": [3, 6]}
    assert at_step(metrics, 5) == {"tokens": 50, "flops_paper": 0.5, "flops_train": 1.5}
    assert at_step(metrics, 20)["tokens"] == 220
    assert all(
        math.isnan(one) for metrics_, step in ((metrics, 21), ({}, 3)) for one in at_step(metrics_, step).values()
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "generation_throughput.json: not JSON"),
        ("[]", "no key 'machine'"),
        (json.dumps(MEASURED | {"sides": {}}), "'sides' is no object of what was measured"),
        (json.dumps(MEASURED | {"sides": {"a": {"prefill_tokens_per_second": 0}}}), "of 'a' is 0, expected a number"),
    ],
)
def test_files_that_were_not_measured(content, message, study, tmp_path):
    from triarch.report.throughput_figures import throughput_panels

    (tmp_path / "generation_throughput.json").write_text(content)
    with pytest.raises(UserError, match=message):
        throughput_panels(tmp_path / "generation_throughput.json")


@pytest.mark.parametrize(
    ("low", "high", "tick"), [(2.0, 300.0, "10"), (1e9, 4e12, "10\N{SUPERSCRIPT ONE}\N{SUPERSCRIPT TWO}")]
)
def test_perplexities_have_readable_ticks(tmp_path, low, high, tick):
    rows = [row | dict(metric="perplexity", value=low if row["step"] == 400 else high) for row in task_rows()]
    write_table(tmp_path / "tasks.csv", rows)
    panel = task_panels(read_tasks(tmp_path / "tasks.csv"))[0]
    panel.figure.canvas.draw()
    (axes,) = panel.figure.axes
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert tick in shown and not any("$" in one for one in shown)

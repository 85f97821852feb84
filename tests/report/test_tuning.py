"""Quality before and after tuning: from evaluate's tables to figures, gains by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.report.study_folder import write_table
from triarch.cli.main import main
from triarch.errors import UserError
from triarch.means import standard_error
from triarch.report.tuning_figures import read_rankers, tuning_panels

# Of each model, which of six questions it had right: two clusters, the first one's questions about two items.
ASKED = [("one", "a"), ("one", "a"), ("one", "b"), ("two", None), ("two", None), ("two", None)]
RIGHT = {
    "redllm": (0, 0, 1, 1, 0, 0),
    "tuned_redllm": (1, 1, 1, 1, 0, 1),
    "decllm": (1, 0, 1, 0, 0, 0),
    "tuned_decllm_biattn": (1, 1, 1, 1, 1, 1),
}


@pytest.fixture
def folder(tmp_path):
    rows, answers = [], []
    for name, right in RIGHT.items():
        has_encoder = "redllm" in name
        facts = dict(model=name, architecture="encoder-decoder" if has_encoder else "decoder-only", step=1)
        facts |= dict(num_params=100 if has_encoder else 110, is_tuned=name.startswith("tuned"))
        facts |= dict(bidirectional_prompt="biattn" in name, forward_flops_paper=10, forward_flops_train=9)
        for level in ("cluster", "mean of clusters"):
            values = dict(accuracy=np.mean([np.mean(right[:3]), np.mean(right[3:])]), standard_error=0.1)
            rows.append(facts | dict(level=level, name="all") | values | dict(chance=0.4, majority=0.5))
        for number, (one, (cluster, item)) in enumerate(zip(right, ASKED, strict=True)):
            answers.append(dict(model=name, number=number, cluster=cluster, item=item, is_right=bool(one)))
    write_table(tmp_path / "ranks.csv", rows)
    (tmp_path / "ranks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    return tmp_path


def test_gains_are_paired_and_items_count_once(folder):
    rankers = read_rankers(folder)
    assert [one.label for one in rankers] == ["RedLLM", "RedLLM", "DecLLM", "DecLLM + BiAttn"]
    gain, error = rankers[1].gain(rankers[0])
    assert gain == pytest.approx((2 / 3 + 1 / 3) / 2)
    # Item a gained twice, item b nothing: deviations of the mean 2/3 are 2/3 in sum, and -2/3.
    first = math.sqrt(2 / 1 * ((2 / 3) ** 2 + (2 / 3) ** 2)) / 3
    second = np.std([0, 0, 1], ddof=1) / math.sqrt(3)
    assert error == pytest.approx(math.hypot(first, second) / 2)
    panels = {panel.name: panel for panel in tuning_panels(rankers)}
    assert list(panels) == [
        *("tuning-num-params", "tuning-forward-flops-paper", "tuning-forward-flops-train", "tuning-gains"),
    ]
    assert [row[:3] for row in panels["tuning-gains"].rows] == [
        ("tuned_redllm", "RedLLM", 100),
        ("tuned_decllm_biattn", "DecLLM + BiAttn", 110),
    ]
    assert standard_error([1, 0, 1]) == pytest.approx(np.std([1, 0, 1], ddof=1) / math.sqrt(3))
    assert standard_error([1, 0], ["a", "a"]) is None


def test_the_page(folder):
    output = folder / "page.html"
    assert main(["report", f"--ranks={folder}", f"--output={output}", f"--figures={folder / 'figures'}"]) == 0
    page = output.read_text()
    assert page.count("<svg") == 4 and "DecLLM + BiAttn, tuned" in page
    assert len(list((folder / "figures").glob("*.csv"))) == 4


def test_what_is_no_table_is_one_line(folder, capsys):
    answers = folder / "ranks.jsonl"
    answers.write_text(answers.read_text().replace("tuned_redllm", "other"))
    with pytest.raises(UserError, match="holds no answer of 'tuned_redllm'"):
        read_rankers(folder)
    answers.write_text('{"model": 1}\n')
    assert main(["report", f"--ranks={folder}", f"--output={folder / 'page.html'}"]) == 1
    assert "ranks.jsonl:1: expected an object with model, cluster, is_right" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["report", f"--output={folder / 'page.html'}"])
    assert ended.value.code == 2
    assert "--study --ranks is required" in capsys.readouterr().err

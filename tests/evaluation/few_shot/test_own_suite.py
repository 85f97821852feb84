"""RedLLM's tasks that the harness lacks, and natural instructions, asked of made data."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluation.few_shot.test_tasks import export, write
from tests.models import tiny
from triarch.cli.main import main
from triarch.evaluation.ranking import read_questions

pytest.importorskip("lm_eval")
ROOT = Path(__file__).parents[3]
SMALL = dataclasses.replace(tiny.DECLLM, num_decoder_layers=1)
COLOURS = [
    {"input": f"{colour} {number}", "output": [("warm" if colour == "red" else "cold"), colour], "id": str(number)}
    for number in range(3)
    for colour in ("red", "blue")
]
TASKS = {
    "task1_colours": {"Definition": ["Is it warm or cold?"], "Categories": ["Colour"], "Instances": COLOURS},
    "task2_copies": {
        "Definition": ["Copy."],
        "Categories": ["Copying"],
        "Instances": [{"input": f"{number}", "output": [f"{number}"], "id": "x"} for number in range(20)],
    },
    "task3_trained": {"Definition": ["No."], "Categories": ["None"], "Instances": []},
}


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """The files of the script, from a checkout as it is published."""
    folder = tmp_path_factory.mktemp("natural")
    for name, task in TASKS.items():
        write(folder / "tasks" / f"{name}.json", [task])
    (folder / "splits" / "default").mkdir(parents=True)
    (folder / "splits" / "default" / "test_tasks.txt").write_text("task1_colours\ntask2_copies\n")
    script = ROOT / "experiments" / "tuning" / "natural_instructions.py"
    flags = [f"--data={folder}", f"--output={folder / 'out'}"]
    done = subprocess.run([sys.executable, str(script), *flags], capture_output=True, text=True, check=True)
    assert "natural_instructions.jsonl: 26 questions of 2 tasks" in done.stdout
    return folder / "out"


def test_natural_instructions_to_be_ranked(questions):
    """Those of which answers recur."""
    found = read_questions(questions / "rank_questions.jsonl")
    assert {one.task for one in found} == {"task1_colours"} and len(found) == 6
    assert (
        found[0].inputs.startswith("Definition: Is it warm or cold?\n\nNow complete") and found[0].cluster == "Colour"
    )
    assert found[0].choices == ("cold", "warm") and found[0].right == 1


@pytest.mark.slow
def test_the_suite_of_ones_own_data(questions, tmp_path, monkeypatch):
    """Every task of redllm_own with examples, and natural instructions; a perfect answer is right, by any reference."""
    data = tmp_path / "data"
    write(
        data / "unifiedqa_test.jsonl",
        [{"question": f"What is {n}? (A) {n} (B) no", "answer": f"{n}"} for n in range(7)],
    )
    write(data / "wmt_en_zh.jsonl", [{"en": f"number {n}", "zh": f"{n} 号"} for n in range(7)])
    (data / "natural_instructions.jsonl").write_text((questions / "natural_instructions.jsonl").read_text())
    flags = [f"--model={export(tmp_path / 'model', SMALL)}", f"--task_data={data}", "--limit=2", "--max_length=1024"]
    names = ["--task_suite=redllm_own", "--tasks=natural_instructions"]
    assert main(["evaluate", *flags, *names, f"--json={tmp_path / 'a.json'}"]) == 0
    found = {one["task"]: one for one in json.loads((tmp_path / "a.json").read_text())["models"][0]["results"]}
    assert {name: (one["metric"], one["num_fewshot"]) for name, one in found.items()} == {
        **{"unifiedqa": ("exact_match", 5), "natural_instructions": ("exact_match", 0)},
        **{"wmt_en_zh": ("chrf", 5), "wmt_zh_en": ("chrf", 5)},
    }
    answers = {"unifiedqa": [" 0", " 1"], "natural_instructions": [" Red.", " cold"], "wmt": []}
    given = iter([answer for name in ("unifiedqa", "natural_instructions") for answer in answers[name]])
    monkeypatch.setattr(
        "triarch.evaluation.few_shot.harness_model.HarnessModel.generate_until",
        lambda self, requests: [next(given) for _ in requests],
    )
    names = ["--tasks=unifiedqa,natural_instructions", "--num_fewshot=2"]
    assert main(["evaluate", *flags, *names, f"--json={tmp_path / 'b.json'}"]) == 0
    right = json.loads((tmp_path / "b.json").read_text())["models"][0]["results"]
    assert {one["task"]: one["value"] for one in right} == {"unifiedqa": 1, "natural_instructions": 1}

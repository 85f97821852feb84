"""`benchmarks/endurance.py`: one kill of each job costs nothing, and what is lost is told."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "endurance.py"


@pytest.fixture(scope="module")
def endurance():
    spec = importlib.util.spec_from_file_location("endurance", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.slow
def test_one_kill_of_each_job_costs_nothing():
    done = subprocess.run([sys.executable, SCRIPT, "--quick"], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[2:-1]]
    assert [(job, int(kills)) for job, kills, *_ in rows] == [("train", 1), ("prepare", 1), ("sweep", 1), ("export", 1)]
    assert done.stdout.endswith("no difference\n")


def test_other_bytes_are_told(endurance, tmp_path):
    for name, files in (("ours", {"a": "1", "b": "2"}), ("theirs", {"a": "1", "b": "3", "c": ""})):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_text(content)
    found = [endurance.digests(tmp_path / name) for name in ("ours", "theirs")]
    assert list(endurance._compare_bytes(*found)) == ["b: other bytes", "c: missing"]
    assert list(endurance._compare_bytes(found[0], found[0])) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{"step": 1, "loss": 2.0}], "a step is missing"),
        ([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5 + 1e-9}], "step 2: loss"),
        ([{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan")}], "step 2: loss"),
    ],
)
def test_other_losses_are_told(endurance, tmp_path, lines, said):
    expected = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}]
    for name, written in (("ours", lines), ("theirs", expected)):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written))
    assert said in next(endurance._compare_runs(tmp_path / "ours", tmp_path / "theirs", True))

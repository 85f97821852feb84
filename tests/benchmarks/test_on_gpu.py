"""`benchmarks/on_gpu.py` at toy sizes: it comes to its end on a CPU, and keeps to its time."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def run(output, *flags):
    command = [sys.executable, FOLDER / "on_gpu.py", "--toy", f"--output={output}", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    assert done.stdout == output.with_suffix(".md").read_text() + "\n"
    return json.loads(output.with_suffix(".json").read_text()), done.stdout


@pytest.mark.slow
def test_a_toy_runs_to_its_end(tmp_path):
    pytest.importorskip("torch")
    report, page = run(tmp_path / "toy")
    assert report["failures"] == []
    rows = report["rows"]
    for kind in ("train", "decode"):
        sides = {(row["model"], row["side"]) for row in rows if row["kind"] == kind}
        models = ("DecLLM", "RedLLM", "Ettin encoder", "Mamba-2") if kind == "train" else ("DecLLM", "RedLLM")
        assert sides == {(model, side) for model in models for side in ("triarch", "transformers")}
    assert all(row["is_exact"] for row in rows if row["kind"] == "kernel")
    counts = {side: [] for side in ("triarch", "transformers")}
    for row in sorted((row for row in rows if row["kind"] == "train"), key=lambda row: row["model"]):
        counts[row["side"]].append(row["parameters"])
    assert counts["triarch"] == pytest.approx(counts["transformers"], rel=0.01)
    assert "MFU of measured" in page


def test_without_time_every_part_is_named_as_left_out(tmp_path):
    report, page = run(tmp_path / "toy", "--budget=1")
    assert report["rows"] == []
    assert len(report["failures"]) == 14
    assert "- train DecLLM: no time left of 1 s" in page


def test_a_part_that_takes_too_long_is_stopped_and_its_rows_stay(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    on_gpu = importlib.import_module("on_gpu")
    script = tmp_path / "slow.py"
    script.write_text("import time\nprint('{\"rows\": [1]}', flush=True)\ntime.sleep(600)\n")
    args = argparse.Namespace(hf_python=sys.executable, toy=False)
    found, reason, seconds = on_gpu.run(on_gpu.Part("slow", str(script), (), 2), 2, args)
    assert (found, reason) == ({"rows": [1]}, "stopped after 2 s")
    assert seconds < 60
    script.write_text("raise SystemExit('no GPU here')\n")
    assert on_gpu.run(on_gpu.Part("none", str(script), (), 60), 60, args)[:2] == ({}, "no GPU here")

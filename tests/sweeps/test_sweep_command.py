"""`triarch sweep` on real text: killed with -9, run again, run once more; two tidy tables come of it."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest
from pyarrow import parquet

from triarch.cli.main import main
from triarch.sweeps.ledger import Ledger
from triarch.training.record.fingerprint import config_fingerprint

STUDY = """
include 'experiments/isoflop_laptop/study.gin'
Study.families = ('decllm',)
Study.labels = ('DecLLM',)
Study.max_windows = 2
Ladder.targets = (9e3, 28e3)
IsoFlop.budgets = (1e10, 2e10)
IsoFlop.tokens_per_parameter = ()
"""


def start(study, output):
    argv = [sys.executable, "-m", "triarch", "sweep", f"--study={study}", f"--output={output}"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_a_finished_one_does_nothing(tmp_path):
    study, output = tmp_path / "study.gin", tmp_path / "out"
    study.write_text(STUDY)
    killed = start(study, output)
    summaries = lambda: sorted(output.glob("runs/*/summary.json"))  # noqa: E731
    for _ in range(3000):
        if summaries():
            break
        assert killed.poll() is None, killed.stdout.read()
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    times = {path: path.stat().st_mtime_ns for path in summaries()}
    assert 1 <= len(times) < 4
    again = start(study, output)
    shown = again.communicate()[0]
    assert again.returncode == 0, shown
    assert len(summaries()) == 4 and {path: path.stat().st_mtime_ns for path in times} == times
    entries = len(Ledger(output / "ledger.jsonl").entries())
    assert main(["sweep", f"--study={study}", f"--output={output}"]) == 0
    assert len(Ledger(output / "ledger.jsonl").entries()) == entries
    _check_tables(output)
    # Another budget is another run, but not under the name of one that is there.
    study.write_text(STUDY + "Study.warmup_fraction = 0.2\n")
    assert main(["sweep", f"--study={study}", f"--output={output}"]) == 1


def _check_tables(output):
    with (output / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and {row["status"] for row in rows} == {"finished"}
    assert len({row["config_fingerprint"] for row in rows}) == 4
    for row, typed in zip(rows, parquet.read_table(output / "results.parquet").to_pylist(), strict=True):
        assert list(typed) == list(row)
        assert {key: "" if value is None else str(value) for key, value in typed.items()} == row
        folder = output / "runs" / row["run"]
        config = json.loads((folder / "config.json").read_text())
        assert row["config_fingerprint"] == config_fingerprint(config)
        assert (int(row["steps"]), int(row["batch_size"])) == (config["steps"], config["batch_size"])
        assert float(row["learning_rate"]) == config["optimizer"]["learning_rate"]["peak"]
        evaluations = json.loads((folder / "evaluations.json").read_text())["evaluations"]
        paired = [e["nats_per_token"] for e in evaluations if (e["role"], e["scoring"]) == ("in_domain", "paired")]
        assert [float(row["in_domain_loss"])] == paired and row["scoring"] == "paired"

"""`triarch sweep --fleet=slurm` on a real study, by a SLURM of two programs that runs jobs on this machine."""

import json
import os
import sys

import pytest

from tests.sweeps.test_journey import Journey
from triarch.cli.main import main

# Starts every element of the array; the first job of all is taken away as soon as it trains.
SBATCH = """#!{python}
import json, os, pathlib, re, subprocess, sys, time
home = pathlib.Path({home!r})
last = int(re.search(r"--array=0-(\\d+)", " ".join(sys.argv)).group(1))
first = not (home / "jobs.json").exists()
jobs = {{}} if first else json.loads((home / "jobs.json").read_text())
number = len(jobs) + 100
for index in range(last + 1):
    environment = os.environ | {{"SLURM_ARRAY_TASK_ID": str(index)}}
    log = open(home / f"log_{{number}}_{{index}}.txt", "w")
    job = subprocess.Popen(["/bin/bash", sys.argv[-1]], env=environment, stdout=log, stderr=log, start_new_session=True)
    jobs[f"{{number}}_{{index}}"] = job.pid
(home / "jobs.json").write_text(json.dumps(jobs))
if first:
    ledger = pathlib.Path({output!r}) / "ledger.jsonl"
    while '"stage": "train", "status": "started"' not in ledger.read_text():
        time.sleep(0.05)
    os.killpg(jobs[f"{{number}}_0"], 9)
    (home / "killed").touch()
print(number)
"""
SQUEUE = """#!{python}
import json, pathlib
for job, pid in json.loads((pathlib.Path({home!r}) / "jobs.json").read_text()).items() if (
    pathlib.Path({home!r}) / "jobs.json"
).exists() else ():
    try:
        if pathlib.Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            print(f"{{job}}|RUNNING")
    except OSError:
        pass
"""


@pytest.mark.slow
def test_a_study_by_slurm_whose_first_machine_is_taken_away(tmp_path, monkeypatch, capsys):
    journey = Journey(tmp_path)
    (tmp_path / "bin").mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
        file = tmp_path / "bin" / name
        file.write_text(text.format(python=sys.executable, home=str(tmp_path), output=str(journey.output)))
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    flags = ["--fleet=slurm", "--fleet_option=partition=tpu", "--fleet_poll=0.5"]
    assert main([*journey.write(), *flags]) == 0, capsys.readouterr()
    assert "study finished" in capsys.readouterr().out and (tmp_path / "killed").exists()
    assert {row["status"] for row in journey.table("results")} == {"finished"}
    submitted = [e for e in journey.entries() if e["status"] == "submitted"]
    assert len(submitted) == 3 and {e["engine"] for e in submitted} == {"slurm"}
    assert [e for e in journey.entries() if e["status"] == "failed"] == []
    assert json.loads((journey.output / "study.json").read_text())["title"] == "Novels"

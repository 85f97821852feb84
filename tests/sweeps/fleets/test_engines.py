"""What SLURM, Kubernetes and Ray are told, by stand-ins for them; and the one line for each refusal."""

import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from triarch.errors import UserError
from triarch.sweeps.fleets import open_engine
from triarch.sweeps.fleets.base import NoAnswer, Task

TASKS = [Task("decllm_s", ("sweep", "--study=my study.gin", "--runs=decllm_s")), Task("redllm_s", ("sweep",))]


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A function that puts a stand-in on PATH, which notes its arguments in NAME.jsonl, and prints what it is told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name, out="", err="", status=0):
        file = folder / name
        file.write_text(
            f"#!{sys.executable}\nimport json, sys\n"
            f"open({str(tmp_path / name)!r} + '.jsonl', 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
            f"sys.stdout.write({out!r}); sys.stderr.write({err!r}); sys.exit({status})\n"
        )
        file.chmod(0o755)
        return tmp_path / f"{name}.jsonl"

    return put


def called(notes):
    return [json.loads(line) for line in notes.read_text().splitlines()]


def test_slurm_gets_an_array_whose_elements_are_the_runs(tmp_path, programs):
    notes = programs("sbatch", "817;cluster\n")
    programs("squeue", "817_0|RUNNING\n817_1|PENDING\n5_0|COMPLETED\n")
    engine = open_engine("slurm", tmp_path / "fleet", {"partition": "tpu", "exclusive": ""})
    assert engine.submit(TASKS) == {"decllm_s": "817_0", "redllm_s": "817_1"}
    (argv,) = called(notes)
    assert {"--array=0-1", "--partition=tpu", "--exclusive", "--requeue"} <= set(argv)
    assert engine.living() == {"817_0": "running", "817_1": "waiting"}
    text = Path(argv[-1]).read_text().replace(f"exec {sys.executable} -m", "exec /bin/echo")
    said = subprocess.run(["/bin/bash", "-c", text], env={"SLURM_ARRAY_TASK_ID": "0"}, capture_output=True, text=True)
    assert said.stdout == "triarch sweep --study=my study.gin --runs=decllm_s\n"


def test_slurm_that_refuses_or_does_not_answer(tmp_path, programs):
    with pytest.raises(UserError, match="--fleet=slurm: sbatch is not on PATH"):
        open_engine("slurm", tmp_path, {})
    programs(
        "sbatch", err="sbatch: error: x\nsbatch: error: Batch job submission failed: Invalid partition\n", status=1
    )
    programs("squeue", err="slurm_load_jobs error: Unable to contact slurm controller\n", status=1)
    engine = open_engine("slurm", tmp_path, {})
    with pytest.raises(UserError, match=r"sbatch refuses .*0000.sh: sbatch: error: Batch job .*Invalid partition$"):
        engine.submit(TASKS)
    with pytest.raises(NoAnswer, match="Unable to contact"):
        engine.living()
    with pytest.raises(UserError, match="array: triarch sets"):
        open_engine("slurm", tmp_path, {"array": "0-3"})


def test_kueue_gets_a_job_set_for_each_run(tmp_path, programs):
    notes = programs("kubectl")
    options = {"image": "us-docker.pkg.dev/p/triarch:1", "claim": "studies", "mount": str(tmp_path)}
    engine = open_engine("kueue", tmp_path / "fleet", options | {"accelerator": "v5e-8", "spot": "yes"})
    (name,) = engine.submit(TASKS[:1]).values()
    (argv,) = called(notes)
    (given,) = yaml.safe_load_all(Path(argv[-1].removeprefix("--filename=")).read_text())
    assert given["kind"] == "JobSet" and given["metadata"]["name"] == name and len(name) < 48
    assert given["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "multislice-queue"
    pod = given["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"] == ["triarch", *TASKS[0].arguments]
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": "8"}
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "2x4",
        "cloud.google.com/gke-spot": "true",
    }
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "studies"}
    done = {"status": {"conditions": [{"type": "Completed", "status": "True"}]}}
    items = [
        {"metadata": {"name": "a"}, "spec": {"suspend": True}},
        {"metadata": {"name": "b"}, "spec": {"suspend": False}, "status": {}},
        {"metadata": {"name": "c"}, "spec": {}, **done},
    ]
    programs("kubectl", json.dumps({"items": items}))
    assert engine.living() == {"a": "waiting", "b": "running"}


def test_kueue_that_refuses_or_is_told_nonsense(tmp_path, programs):
    options = {"image": "i", "claim": "c", "mount": str(tmp_path)}
    with pytest.raises(UserError, match="kubectl is not on PATH"):
        open_engine("kueue", tmp_path, options)
    for change, said in (
        ({"accelerator": "v5e-16"}, "expected a slice of one host, .*did you mean 'v5e-1'"),
        ({"mount": "/elsewhere"}, "not below /elsewhere"),
        ({"imge": "i"}, "did you mean 'image'"),
    ):
        with pytest.raises(UserError, match=said):
            open_engine("kueue", tmp_path, options | change)
    with pytest.raises(UserError, match="needs --fleet_option=image="):
        open_engine("kueue", tmp_path, {"claim": "c"})
    programs("kubectl", err='error: no matches for kind "JobSet" in version "jobset.x-k8s.io/v1alpha2"\n', status=1)
    with pytest.raises(UserError, match=r'is not taken: error: no matches for kind "JobSet"'):
        open_engine("kueue", tmp_path, options).submit(TASKS[:1])


class _Jobs(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        listed = [{"submission_id": name, "status": state} for name, state in self.server.states.items()]
        self._answer(200, json.dumps(listed))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body.get("entrypoint_num_cpus") == 99:
            return self._answer(500, "Traceback\nValueError: no node has so many")
        self.server.taken.append(body)
        self._answer(200, json.dumps({"submission_id": f"raysubmit_{len(self.server.taken)}"}))

    def _answer(self, status, text):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass


def test_ray_gets_a_job_for_each_run(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Jobs)
    server.states, server.taken = {"x": "RUNNING", "y": "PENDING", "z": "FAILED"}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    engine = open_engine("ray", tmp_path, {"address": address, "cpus": "4", "resources": "TPU=4"})
    assert engine.living() == {"x": "running", "y": "waiting"}
    assert engine.submit(TASKS[:1]) == {"decllm_s": "raysubmit_1"}
    (taken,) = server.taken
    assert taken["entrypoint"].endswith(" && exec triarch sweep '--study=my study.gin' --runs=decllm_s")
    assert taken["entrypoint_num_cpus"] == 4 and taken["entrypoint_resources"] == {"TPU": 4}
    with pytest.raises(UserError, match="decllm_s is not taken: ValueError: no node has so many"):
        open_engine("ray", tmp_path, {"address": address, "cpus": "99"}).submit(TASKS[:1])
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=f"--fleet=ray: no job server at {address}"):
        open_engine("ray", tmp_path, {"address": address})
    with pytest.raises(UserError, match="did you mean 'ray'"):
        open_engine("rays", tmp_path, {})

"""Each script calls what it should, says what it would call, and answers a mistake with one line."""

import subprocess
from pathlib import Path

import pytest

from .conftest import SCRIPTS, wait_for

PLACE = ["--zone=us-central2-b"]
QUEUED = ["gcloud", "compute", "tpus", "queued-resources"]
SLICE = ["--name=redllm", *PLACE]
TYPED = [*SLICE, "--accelerator-type=v4-16"]
ON_ALL = ["redllm", *PLACE, "--node=all", "--worker=all"]
CREATE = ["--accelerator-type=v4-16", "--runtime-version=tpu-ubuntu2204-base"]
DESCRIBE = [*QUEUED, "describe", "redllm", *PLACE, "--format=value(state.state)"]
TRAIN = ["triarch", "train", "--workdir=/mnt/triarch/runs/first"]
GIVEN_SETTINGS = ["--env=LIBTPU_INIT_ARGS=--flag=1 --other=2"]

# Script, its arguments, exactly the calls it makes.
CALLS = {
    "create": ("create.sh", TYPED, [[*QUEUED, "create", "redllm", *PLACE, *CREATE, "--node-id=redllm-0"], DESCRIBE]),
    "create spot": (
        "create.sh",
        [*SLICE, "--project=p", "--accelerator-type=v6e-8", "--spot", "--no-wait", "--internal-ips", "--network=n"],
        [
            [
                *QUEUED,
                "create",
                "redllm",
                *PLACE,
                "--project=p",
                "--accelerator-type=v6e-8",
                "--runtime-version=v2-alpha-tpuv6e",
                "--node-id=redllm-0",
                "--spot",
                "--internal-ips",
                "--network=n",
            ]
        ],
    ),
    "create multislice": (
        "create.sh",
        [*SLICE, "--accelerator-type", "v5p-128", "--slices", "2", "--reserved", "--no-wait"],
        [
            [
                *QUEUED,
                "create",
                "redllm",
                *PLACE,
                "--accelerator-type=v5p-128",
                "--runtime-version=v2-alpha-tpuv5",
                "--node-count=2",
                "--node-prefix=redllm",
                "--reserved",
            ]
        ],
    ),
    "create v5e": (
        "create.sh",
        [
            *SLICE,
            "--accelerator-type=v5litepod-256",
            "--no-wait",
            "--runtime-version=other",
            "--valid-until-duration=6h",
        ],
        [
            [
                *QUEUED,
                "create",
                "redllm",
                *PLACE,
                "--accelerator-type=v5litepod-256",
                "--runtime-version=other",
                "--node-id=redllm-0",
                "--valid-until-duration=6h",
            ]
        ],
    ),
    "setup from git": (
        "setup.sh",
        [*SLICE, "--repository=https://example.org/r.git", "--ref=it's", "--extras=tpu,tasks", "--copy=gs://b/a store"],
        [
            [*QUEUED, "scp", f"{SCRIPTS}/on_worker.sh", "redllm:triarch_on_worker.sh", *ON_ALL[1:]],
            [*QUEUED, "scp", f"{SCRIPTS}/traceable.py", "redllm:triarch_traceable.py", *ON_ALL[1:]],
            [
                *QUEUED,
                "ssh",
                *ON_ALL,
                "--command=bash triarch_on_worker.sh install tpu,tasks git https://example.org/r.git 'it'\\''s'",
            ],
            [*QUEUED, "ssh", *ON_ALL, "--command=bash triarch_on_worker.sh copy 'gs://b/a store'"],
        ],
    ),
    "run": (
        "run.sh",
        [*TYPED, *GIVEN_SETTINGS, "--run-name=my run", "--", *TRAIN, "--gin.X='y'"],
        None,  # Its long line of settings is looked at by test_settings_of_a_run.
    ),
    "run_on_all": (
        "run_on_all.sh",
        [*SLICE, "--", "df", "-h", "a folder"],
        [
            [
                *QUEUED,
                "ssh",
                *ON_ALL,
                '--command=bash -c \'"$@" || { status=$?; echo "worker $(hostname): failed with exit status $status" '
                ">&2; exit \"$status\"; }' run_on_all df -h 'a folder'",
            ]
        ],
    ),
    "logs": (
        "logs.sh",
        [*SLICE, "--follow", "--lines=5", "--internal-ips"],
        [[*QUEUED, "ssh", *ON_ALL, "--tunnel-through-iap", "--command=bash triarch_on_worker.sh log train 5 follow"]],
    ),
    "logs of one": (
        "logs.sh",
        [*SLICE, "--node=0", "--worker=3"],
        [
            [
                *QUEUED,
                "ssh",
                "redllm",
                *PLACE,
                "--node=0",
                "--worker=3",
                "--command=bash triarch_on_worker.sh log train 100",
            ]
        ],
    ),
    "stop": (
        "stop.sh",
        [*SLICE, "--grace=9"],
        [[*QUEUED, "ssh", *ON_ALL, "--command=bash triarch_on_worker.sh stop train 9"]],
    ),
    "profile": (
        "profile.sh",
        [*SLICE, "--output=/mnt/a b", "--seconds=2.5"],
        [[*QUEUED, "ssh", *ON_ALL, "--command=bash triarch_on_worker.sh trace train 2.5 '/mnt/a b'"]],
    ),
    "delete": ("delete.sh", SLICE, [[*QUEUED, "delete", "redllm", *PLACE, "--force", "--quiet"]]),
}


def pasted(stage, lines):
    """Runs what --dry-run printed, as a person who pastes it would."""
    environment = {"PATH": f"{stage.root}/bin", "STAND_IN": str(stage.root), "HOME": str(stage.root)}
    subprocess.run(["/bin/bash", "-c", lines], env=environment, cwd=stage.root, capture_output=True)


@pytest.mark.parametrize("case", CALLS)
def test_calls_and_dry_run(stage, case):
    script, argv, expected = CALLS[case]
    result = stage.run(script, "--dry-run", *argv)
    assert result.status == 0, result.err
    assert stage.calls() == []
    pasted(stage, result.out)
    printed = stage.calls()
    if expected is not None:
        assert printed == expected
    (stage.root / "calls.jsonl").unlink()
    (stage.root / "state.json").unlink()
    stage.run(script, *argv)
    # A real call may stop at the stand-in's first refusal: there is no slice in most of these.
    real = stage.calls()
    assert real == printed[: len(real)]
    assert real


def test_dry_run_of_watch_prints_what_a_run_without_incidents_calls(stage):
    wheel, lock = stage.root / "a wheel.whl", stage.root / "requirements.lock"
    wheel.touch()
    lock.touch()
    argv = [*TYPED, "--poll=0.05", f"--wheel={wheel}", f"--lock={lock}", "--bucket=b", f"--mount={stage.mount}"]
    argv += ["--", "triarch", "train", f"--workdir={stage.mount}/it's"]
    printed = stage.run("watch.sh", "--dry-run", *argv)
    assert printed.status == 0, printed.err
    assert stage.calls() == []
    stage.scene(workers=2)
    assert stage.run("watch.sh", *argv).status == 0
    real = stage.calls()
    (stage.root / "calls.jsonl").unlink()
    pasted(stage, printed.out)
    # How often it looks depends on how fast the run is; the dry run looks once.
    assert once_a_look(stage.calls()) == once_a_look(real)


def once_a_look(calls):
    calls = [call for call in calls if call != DESCRIBE]
    return [call for i, call in enumerate(calls) if i == 0 or call != calls[i - 1]]


def test_settings_of_a_run(stage):
    result = stage.run("run.sh", "--dry-run", *TYPED, "--bucket=b", "--", *TRAIN)
    assert (
        "JAX_COMPILATION_CACHE_DIR=/mnt/triarch/compilation_cache JAX_PLATFORMS=tpu,cpu -- triarch train" in result.out
    )
    assert "--xla_enable_async_all_gather=true" in result.out
    assert "async_collective_fusion" not in result.out  # On v5e alone: this is a v4.
    assert "multislice" not in result.out
    two = stage.run("run.sh", "--dry-run", *TYPED, "--slices=2", "--", *TRAIN)
    assert "prefer_async_allgather" in two.out
    assert "JAX_COMPILATION_CACHE_DIR=triarch/compilation_cache" in two.out
    own = stage.run("run.sh", "--dry-run", *TYPED, *GIVEN_SETTINGS, "--", *TRAIN)
    assert own.out.index("LIBTPU_INIT_ARGS=--xla") < own.out.index("LIBTPU_INIT_ARGS=--flag=1 --other=2")


def test_names_with_spaces_and_quotes_pass_through(stage):
    odd = """a "b" 'c' $d `e` \\ ü;&|*"""
    argv = [f"--name={odd}", f"--zone={odd}", f"--project={odd}"]
    stage.run("delete.sh", *argv)
    assert stage.calls() == [[*QUEUED, "delete", odd, f"--zone={odd}", f"--project={odd}", "--force", "--quiet"]]
    pasted(stage, stage.run("delete.sh", "--dry-run", *argv).out)
    assert stage.calls()[0] == stage.calls()[1]


def test_run_on_all_names_the_worker_that_fails(stage):
    stage.scene(workers=3)
    assert stage.run("create.sh", *SLICE, "--accelerator-type=v5litepod-16").status == 0
    command = ["bash", "-c", 'test "$STAND_IN_WORKER" != 0-2 || exit 7']
    result = stage.run("run_on_all.sh", *SLICE, "--", *command)
    assert result.status == 1
    assert "worker host-0-w-2: failed with exit status 7" in result.err
    assert "host-0-w-1" not in result.err


def test_logs_show_each_worker_and_profile_needs_a_run(stage):
    stage.scene(workers=2, training=("hang",))
    assert stage.run("create.sh", *TYPED).status == 0
    wheel = stage.root / "w.whl"
    wheel.touch()
    assert stage.run("setup.sh", *SLICE, f"--wheel={wheel}", f"--lock={wheel}").status == 0
    nothing = stage.run("profile.sh", *SLICE, "--output=traces")
    assert nothing.status == 1
    assert "worker host-0-w-1: train is not running" in nothing.err
    assert stage.run("run.sh", *TYPED, "--", "triarch", "train", "--workdir=runs/first").status == 0
    again = stage.run("run.sh", *TYPED, "--", "triarch", "train", "--workdir=runs/first")
    assert "worker host-0-w-0: train is running already" in again.out
    logs = stage.run("logs.sh", *SLICE)
    assert "[host-0-w-0] --- started" in logs.out
    assert "[host-0-w-1] --- started" in logs.out
    profile = stage.run("profile.sh", *SLICE, "--output=a trace", "--seconds=2.5")
    assert profile.status == 0, profile.err
    wait_for(lambda: (stage.root / "traced-0-1").exists())
    assert (stage.root / "traced-0-1").read_text() == "2.5\na trace\n"
    stopped = stage.run("stop.sh", *SLICE)
    assert "worker host-0-w-1: stopped train" in stopped.out


def test_stop_kills_what_does_not_stop(stage):
    stage.scene(training=("stubborn",))
    assert stage.run("create.sh", *SLICE, "--accelerator-type=v4-8").status == 0
    wheel = stage.root / "w.whl"
    wheel.touch()
    assert stage.run("setup.sh", *SLICE, f"--wheel={wheel}", f"--lock={wheel}").status == 0
    run = stage.run("run.sh", *SLICE, "--accelerator-type=v4-8", "--", "triarch", "train", "--workdir=runs/first")
    assert run.status == 0
    job = stage.root / "homes/0-0/triarch/jobs/train"
    wait_for((job / "traceable").exists)
    pid = int((job / "pid").read_text())
    stopped = stage.run("stop.sh", *SLICE, "--grace=1")
    assert "worker host-0-w-0: killed train, which did not stop in 1 s" in stopped.out
    wait_for(lambda: not Path(f"/proc/{pid}").exists())
    assert "is not running" in stage.run("stop.sh", *SLICE).out


def test_an_interrupted_wait_says_what_still_costs(stage):
    stage.scene(states=["WAITING_FOR_RESOURCES"])
    process = stage.start("create.sh", *TYPED, "--poll=0.1")
    wait_for(lambda: len(stage.calls()) > 2)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted: redllm stays asked for, and will cost: delete.sh deletes it" in err

"""watch.sh sees a run through: preemptions, failing workers, refusals, and being started again itself."""

import json
import re

import pytest

SLICE = ("--name=redllm", "--zone=us-central2-b", "--accelerator-type=v4-16")
FAST = ("--poll=0.05",)


def watch(stage, *flags, command=None):
    wheel, lock = stage.root / "triarch-0-py3-none-any.whl", stage.root / "requirements.lock"
    wheel.touch()
    lock.touch()
    mount = f"--mount={stage.mount}"
    command = command or ("triarch", "train", f"--workdir={stage.mount}/runs/first")
    source = (f"--wheel={wheel}", f"--lock={lock}", "--bucket=my-bucket", mount)
    return stage.run("watch.sh", *SLICE, *FAST, *source, *flags, "--", *command)


def verbs(stage):
    """What was called, in short: create, delete, and what the workers were told."""
    short = []
    for tool, *argv in stage.calls():
        if argv[:3] != ["compute", "tpus", "queued-resources"]:
            short.append(argv[0] if tool == "gcloud" and argv[0] != "compute" else "node")
        elif argv[3] == "ssh":
            command = next(word for word in argv if word.startswith("--command="))
            short.append(command.split()[2] if "run_on_all" not in command else "run_on_all")
        elif argv[3] != "describe":
            short.append(argv[3])
    return short


def test_a_run_without_incidents(stage):
    stage.scene(workers=2, states=["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
    result = watch(stage)
    assert result.status == 0, result.err
    assert verbs(stage)[:8] == ["storage", "create", *["scp"] * 4, "install", "mount"]
    assert verbs(stage)[8:] == ["start", *["status"] * (verbs(stage).count("status")), "scp", "scp", "delete"]
    assert "redllm is PROVISIONING" in result.err
    assert "train is complete: gs://my-bucket/runs/first/summary.json" in result.err
    assert sorted(path.name for path in (stage.root / "logs/redllm").iterdir()) == ["0-0.log", "0-1.log"]


def test_a_workdir_in_a_bucket(stage):
    stage.scene(workers=2)
    result = watch(stage, command=("triarch", "train", "--workdir=gs://my-bucket/runs/first"))
    assert result.status == 0, result.err
    assert "train is complete: gs://my-bucket/runs/first/summary.json" in result.err
    assert verbs(stage)[-1] == "delete"


def test_preemption_in_the_middle_goes_on_with_the_same_command(stage):
    stage.scene(training=("hang", "complete"), workers=2, preempt_at_looks=[2])
    result = watch(stage, "--spot")
    assert result.status == 0, result.err
    told = [verb for verb in verbs(stage) if verb not in ("status", "scp", "storage")]
    once = ["create", "install", "mount", "start"]
    assert told[: len(once)] == once
    assert told[-len(once) - 2 :] == ["delete", *once, "delete"]
    starts = [call for call in stage.calls() if any(" start " in word for word in call)]
    creations = [call for call in stage.calls() if "create" in call]
    assert len(starts) == len(creations) == 2
    assert starts[0] == starts[1]
    assert creations[0] == creations[1]
    assert "--spot" in creations[0]
    assert "redllm is SUSPEND" in result.err


def test_preemption_that_shows_on_the_node_only(stage):
    stage.scene(training=("hang", "complete"), workers=2, preempt_at_looks=[2], preempted_node=True)
    result = watch(stage)
    assert result.status == 0, result.err
    assert "redllm was taken away: deleting it" in result.err
    assert verbs(stage).count("create") == 2


def test_a_result_already_on_the_bucket_asks_for_no_slice(stage):
    (stage.mount / "runs/first").mkdir(parents=True)
    (stage.mount / "runs/first/summary.json").write_text("{}")
    result = watch(stage)
    assert result.status == 0
    assert verbs(stage) == ["storage"]


def test_started_again_it_goes_on_with_a_slice_that_works(stage):
    stage.scene(training=("complete",), workers=2)
    assert stage.run("create.sh", *SLICE).status == 0
    result = watch(stage, "--keep")
    assert result.status == 0, result.err
    assert "redllm is not set up" in result.err
    assert verbs(stage).count("create") == 1
    again = watch(stage)
    assert again.status == 0
    assert verbs(stage).count("start") == 1


def test_a_failing_worker_is_named_and_its_logs_collected(stage):
    stage.scene(training=({"0-1": 3},), workers=2)
    result = watch(stage, "--retries=0", "--logs=my logs")
    assert result.status == 1
    assert "train failed on worker host-0-w-1 (exit status 3)" in result.err
    assert result.err.strip().splitlines()[-1].endswith("given up after 1 tries; logs are in my logs")
    assert "ended" in (stage.root / "my logs/0-1.log").read_text()
    assert (stage.root / "my logs/0-0.log").exists()
    assert verbs(stage)[-1] == "delete"


def test_a_failing_worker_is_tried_again(stage):
    stage.scene(training=({"0-1": 3}, "complete"), workers=2)
    result = watch(stage, "--retries=1")
    assert result.status == 0, result.err
    assert "trying again (1 of 1)" in result.err
    assert verbs(stage).count("stop") == 1
    assert verbs(stage).count("create") == 1


def test_a_run_that_ends_too_early_is_no_success(stage):
    stage.scene(training=("unfinished",), workers=2)
    result = watch(stage, "--retries=0", "--done-file=never")
    assert result.status == 1
    assert "note: never is not on a bucket" in result.err
    assert "train ended on every worker and left no never" in result.err
    assert "delete" not in verbs(stage)


def test_silence_counts_as_a_failure(stage):
    stage.scene(training=("hang",), workers=2)
    result = watch(stage, "--stall=1", "--retries=0")
    assert result.status == 1
    assert re.search(r"train has said nothing for \d+ s", result.err)


def test_quota_refusal_is_one_line_and_leaves_nothing(stage):
    stage.scene(create_error="RESOURCE_EXHAUSTED: Quota 'X' exceeded")
    result = watch(stage)
    assert result.status == 1
    assert verbs(stage) == ["storage", "create"]
    assert [line for line in result.err.splitlines() if "error:" in line] == [
        "create.sh: error: no v4-16 in us-central2-b: RESOURCE_EXHAUSTED: Quota 'X' exceeded; nothing is left behind"
    ]


def test_quota_refusal_after_the_request_was_queued(stage):
    stage.scene(states=["WAITING_FOR_RESOURCES", "FAILED"], failed_message="Quota exceeded for v4 in us-central2-b")
    result = watch(stage)
    assert result.status == 1
    assert verbs(stage) == ["storage", "create", "delete"]
    assert "Quota exceeded for v4 in us-central2-b; nothing is left behind" in result.err


def test_no_capacity_is_tried_again_a_few_times(stage):
    stage.scene(states=["WAITING_FOR_RESOURCES", "FAILED"], failed_message="There is no more capacity in the zone")
    result = watch(stage, "--retries=2")
    assert result.status == 1
    assert verbs(stage).count("create") == 3
    assert "given up after 3 tries" in result.err


def test_a_set_up_that_fails_names_the_worker(stage):
    stage.scene(workers=2, install_fails=["0-1"])
    result = watch(stage, "--retries=0")
    assert result.status == 1
    assert "worker host-0-w-1: could not install triarch" in result.err
    assert "redllm could not be set up" in result.err
    assert verbs(stage)[-1] == "delete"


@pytest.mark.slow
def test_an_unreachable_worker_is_not_waited_for_forever(stage):
    stage.scene(training=("hang",), workers=2, unreachable=["0-1"], unreachable_from_look=2)
    result = watch(stage)
    assert result.status == 1
    assert "1 of 2 workers answered" in result.err
    assert "redllm could not be reached 10 times; it is still there, and costs" in result.err
    assert "delete" not in verbs(stage)


def test_the_command_arrives_unharmed_on_every_worker(stage):
    odd = ["it's", 'say "hi"', "$HOME `id` \\ *", "two\nlines", "", "--gin.X='a b'", "é;|&", "~"]
    stage.scene(workers=2, slices=2)
    workdir = f"--workdir={stage.mount}/a run's folder"
    result = watch(
        stage, "--slices=2", "--env=NAME=it's $5", "--run-name=my run", command=("triarch", "train", workdir, *odd)
    )
    assert result.status == 0, result.err
    for worker in ("0-0", "0-1", "1-0", "1-1"):
        seen = json.loads((stage.root / f"argv-{worker}.json").read_text())
        assert seen["argv"][1:] == ["triarch", "train", workdir, *odd]
        assert seen["environ"]["NAME"] == "it's $5"
        assert seen["environ"]["JAX_COMPILATION_CACHE_DIR"] == f"{stage.mount}/compilation_cache"
        assert "--xla_tpu_prefer_async_allgather_to_allreduce=true" in seen["environ"]["LIBTPU_INIT_ARGS"].split()

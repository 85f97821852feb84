"""pool.sh keeps slices of one host at work: preemptions, failures, the end, and what it would do."""

from .test_watch import verbs

SLICE = ("--name=study", "--zone=us-central2-b", "--accelerator-type=v4-8", "--poll=0.05")
TRAIN = ("triarch", "train", "--workdir=out")


def pool(stage, *flags):
    wheel, lock = stage.root / "triarch-0-py3-none-any.whl", stage.root / "requirements.lock"
    wheel.touch()
    lock.touch()
    return stage.run("pool.sh", *SLICE, f"--wheel={wheel}", f"--lock={lock}", *flags, "--", *TRAIN)


def test_a_preempted_slice_comes_again_and_ends_with_its_command(stage):
    stage.scene(training=("hang", "complete"), workers=1, preempt_at_looks=[3])
    result = pool(stage, "--size=1", "--spot", "--prepare=: : prepared")
    assert result.status == 0, result.err
    told = [verb for verb in verbs(stage) if verb not in ("status", "scp", "storage")]
    assert told == ["create", "install", "prepared", "start", "delete"] * 2
    assert "study-1 is SUSPEND" in result.err and "study-1 is done: deleting it" in result.err
    created = [call for call in stage.calls() if "create" in call]
    assert all("--spot" in call and "study-1" in call for call in created)


def test_a_command_that_fails_is_tried_again_and_given_up(stage):
    stage.scene(training=({"0-0": 1},), workers=1)
    result = pool(stage, "--size=1", "--retries=1")
    assert result.status == 1
    assert "study-1: train failed (exit status 1): trying again (1 of 1)" in result.err
    assert "study-1 failed for good" in result.err
    assert verbs(stage)[-1] == "delete" and verbs(stage).count("start") == 2


def test_a_refused_pool_and_larger_slices(stage):
    stage.scene(create_error="ERROR: (gcloud.x) RESOURCE_EXHAUSTED: Quota 'TPUV4' exceeded")
    result = pool(stage, "--size=2")
    assert result.status == 1 and "study-1 was refused" in result.err and "study-2 was refused" in result.err
    stage.scene()
    for flags, said in ((("--size=0",), "whole number from 1"), (("--size=1", "--slices=2"), "its number of them is")):
        assert said in pool(stage, *flags).err
    place = ("--name=s", "--zone=z", "--accelerator-type=v4-16", "--size=1", "--repository=u")
    large = stage.run("pool.sh", *place, "--", "true")
    assert large.status == 2 and "expected a slice of one host" in large.err


def test_dry_run_prints_every_command_and_runs_none(stage):
    result = pool(stage, "--size=2", "--dry-run")
    assert result.status == 0, result.err
    assert "queued-resources create study-2" in result.out and stage.calls() == []

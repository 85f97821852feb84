"""A run folder in a bucket: one writer, whole checkpoints, and nothing lost by failing buckets or processes."""

import contextlib
import json
import threading

import pytest

from triarch.errors import UserError
from triarch.remote import claims, runs
from triarch.remote.claims import Claim
from triarch.remote.runs import RunFolder, checkpoint_lists


def followed(bucket, home, said=(), stopped=()):
    said, stopped = said if isinstance(said, list) else [], stopped if isinstance(stopped, list) else []
    return RunFolder(bucket, home / "run", Claim(bucket), said.append, lambda: stopped.append(1)).followed(60.0)


def save(folder, step, text="params"):
    for name in ("params/d/0", "optimizer/d/1"):
        file = folder / "checkpoints" / str(step) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text} of {step}")


def test_a_run_goes_to_the_bucket_and_comes_back_elsewhere(bucket, tmp_path):
    with followed(bucket, tmp_path / "one") as folder:
        (folder / "config.json").write_text("{}")
        (folder / "metrics.jsonl").write_text("1\n2\n")
        (folder / ".lock").write_text("")
        save(folder, 2)
        save(folder, 4)
        (folder / "summary.json").write_text("done")
    assert not (tmp_path / "one").exists()
    assert set(checkpoint_lists(bucket)) == {2, 4} and bucket.sizes(".triarch/claims") == {}
    assert bucket.read("summary.json") == b"done" and bucket.read(".lock") is None
    bucket.write("checkpoints/6/params/d/0", b"left by a killed process")
    with followed(bucket, tmp_path / "two") as folder:
        assert (folder / "checkpoints/4/optimizer/d/1").read_text() == "params of 4"
        assert not (folder / "checkpoints/2").exists() and not (folder / "checkpoints/6").exists()
        (folder / "summary.json").unlink()
        save(folder, 6)
        for path in sorted((folder / "checkpoints/4").rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (folder / "checkpoints/4").rmdir()
    assert set(checkpoint_lists(bucket)) == {6} and bucket.read("summary.json") is None
    assert {name.split("/")[1] for name in bucket.sizes("checkpoints")} == {"6"}
    assert bucket.read("metrics.jsonl") == b"1\n2\n"


def test_the_list_of_a_checkpoint_comes_after_its_files_and_the_metrics(bucket, tmp_path):
    order, real = [], bucket._store.put_file

    def put_file(local, remote, **more):
        order.append(remote.rpartition("run/")[2])
        return real(local, remote, **more)

    bucket._store.put_file = put_file
    pipe_file = bucket._store.pipe_file
    bucket._store.pipe_file = lambda path, value, **more: (
        order.append(path.rpartition("run/")[2]), pipe_file(path, value, **more)
    )  # fmt: skip
    try:
        with followed(bucket, tmp_path) as folder:
            save(folder, 2)
            (folder / "metrics.jsonl").write_text("1\n")
            (folder / "summary.json").write_text("done")
    finally:
        del bucket._store.put_file, bucket._store.pipe_file
    listed = order.index(".triarch/checkpoints/2.json")
    assert {"checkpoints/2/params/d/0", "checkpoints/2/optimizer/d/1", "metrics.jsonl"} <= set(order[:listed])
    assert order.index("summary.json") > listed


def test_a_damaged_checkpoint_is_named(bucket, tmp_path):
    with followed(bucket, tmp_path / "one") as folder:
        save(folder, 2)
    bucket.write("checkpoints/2/params/d/0", b"x")
    with (
        pytest.raises(UserError, match="2/params/d/0: is cut short: the checkpoint of step 2 is damaged"),
        followed(bucket, tmp_path / "two"),
    ):
        pass
    bucket.write(".triarch/checkpoints/2.json", json.dumps({"../../x": 1}).encode())
    with pytest.raises(UserError, match=r"2\.json"), followed(bucket, tmp_path / "two"):
        pass
    assert bucket.sizes(".triarch/claims") == {}


def test_a_bucket_that_fails_in_the_middle_loses_nothing(bucket, faults, tmp_path):
    with (
        pytest.raises(UserError, match=f"cannot be written: 503; what was not sent is in {tmp_path / 'run'}"),
        followed(bucket, tmp_path) as folder,
    ):
        save(folder, 2)
        faults("put_file", None, *[OSError("503")] * 99)
    assert checkpoint_lists(bucket) == {}
    faults("put_file")
    with pytest.raises(UserError, match="another process is training in this run folder"):
        Claim(bucket)  # This process lives, and has not released it.
    real = claims.writer_lives
    claims.writer_lives = lambda writer: False
    try:
        with followed(bucket, tmp_path) as folder:
            assert (folder / "checkpoints/2/params/d/0").exists()
    finally:
        claims.writer_lives = real
    assert set(checkpoint_lists(bucket)) == {2} and not tmp_path.joinpath("run").exists()


def test_another_error_is_not_hidden_by_the_bucket(bucket, faults, tmp_path):
    said = []
    with pytest.raises(UserError, match="the loss became NaN"), followed(bucket, tmp_path, said) as folder:
        save(folder, 2)
        faults("put_file", *[OSError("503")] * 99)
        raise UserError("the loss became NaN")
    assert len(said) == 1 and "what was not sent is in" in said[0]


def test_two_writers(bucket, tmp_path):
    with followed(bucket, tmp_path / "one"):
        with pytest.raises(UserError, match=r"another process is training in this run folder \(process \d+ on "):
            Claim(bucket)
        # From another machine one cannot tell whether it lives but by its signs of life.
        bucket.write(
            ".triarch/claims/000001", json.dumps({"writer": "00000000-1-1", "place": "process 1 on x"}).encode()
        )
        with pytest.raises(
            UserError, match="process 1 on x, last seen 0 s ago; should it be gone, this works in 180 s"
        ):
            Claim(bucket)
    winners, threads = [], []
    barrier = threading.Barrier(8)

    def take():
        barrier.wait()
        with contextlib.suppress(UserError):
            winners.append(Claim(bucket))

    threads = [threading.Thread(target=take) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(winners) == 1
    winners[0].release()


def test_who_was_taken_for_gone_writes_nothing_more(bucket, tmp_path):
    stopped = []
    old = RunFolder(bucket, tmp_path / "old" / "run", Claim(bucket), print, lambda: stopped.append(1))
    with (
        pytest.raises(UserError, match="another process has taken this run folder: nothing more is written"),
        old.followed(0.05) as folder,
    ):
        real = claims.writer_lives
        claims.writer_lives = lambda writer: None
        try:
            new = Claim(bucket, gone=-1.0)
        finally:
            claims.writer_lives = real
        save(folder, 2)
        for _ in range(100):
            if stopped:
                break
            threading.Event().wait(0.05)
    assert stopped == [1] and checkpoint_lists(bucket) == {}
    new.release()
    assert runs.checkpoint_lists(bucket) == {}


def test_a_claim_stays_lost_when_whoever_took_it_has_finished(bucket, monkeypatch):
    old = Claim(bucket)
    old.check()
    monkeypatch.setattr(claims, "writer_lives", lambda writer: None)
    Claim(bucket, gone=-1.0).release()
    with pytest.raises(UserError, match="another process has taken this run folder: nothing more is written"):
        old.check()
    assert old.lost
    old.release()

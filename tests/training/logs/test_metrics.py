"""The log of a run, before and after a crash."""

import json
import os

import pytest

from triarch.errors import UserError
from triarch.training.logs.metrics import MetricsLog, read_lines
from triarch.training.logs.trackers import TensorBoard


def write(workdir, restored, *lines, tensorboard=False):
    log = MetricsLog(workdir, restored, [TensorBoard(workdir / "tensorboard", restored)] if tensorboard else ())
    for line in lines:
        log.write(line)
    log.close()
    return log


def test_lines_beyond_the_restored_step_are_dropped(tmp_path):
    write(tmp_path, 0, *({"step": step, "loss": 1.0 / step} for step in range(1, 8)))
    log = write(tmp_path, 4, {"step": 5, "loss": 9.0})
    assert [line["step"] for line in log.lines] == [1, 2, 3, 4, 5]
    assert read_lines(tmp_path / "metrics.jsonl") == log.lines
    assert log.lines[-1] == {"step": 5, "loss": 9.0}


def test_a_line_cut_short_is_dropped(tmp_path):
    write(tmp_path, 0, {"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.2})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-7])
    log = write(tmp_path, 2, {"step": 3, "loss": 0.3})
    assert [line["step"] for line in log.lines] == [1, 3]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_numbers_survive_exactly(tmp_path):
    value = 0.1 + 0.2
    write(tmp_path, 0, {"step": 1, "loss": value})
    assert read_lines(tmp_path / "metrics.jsonl")[0]["loss"] == value


def test_what_json_cannot_say_is_refused(tmp_path):
    log = MetricsLog(tmp_path, 0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.write({"step": 1, "loss": float("nan")})
    log.close()


def test_tensorboard_gets_every_number(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    write(tmp_path, 0, {"step": 3, "loss": 2.5, "mfu": None}, tensorboard=True)
    (events,) = (tmp_path / "tensorboard").iterdir()
    data, values = events.read_bytes(), {}
    while data:
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        values |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        data = data[16 + size :]
    assert values == {("loss", 3): 2.5}


def test_a_log_that_is_none_is_not_read(tmp_path):
    (tmp_path / "secret.jsonl").write_text('{"step": 1}\n')
    path = tmp_path / "run" / "metrics.jsonl"
    assert read_lines(path) == []
    path.parent.mkdir()
    path.symlink_to("../secret.jsonl")
    with pytest.raises(UserError, match=r"metrics\.jsonl: a link out of"):
        read_lines(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"metrics\.jsonl: is a FIFO"):
        read_lines(path)

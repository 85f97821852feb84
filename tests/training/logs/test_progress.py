"""The line that says how a run is doing."""

import io

import pytest

from triarch.readable import duration, shortened
from triarch.training.hardware import peak_flops
from triarch.training.logs.status import StatusLine


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_elsewhere_than_on_a_terminal_lines_come_now_and_then():
    stream = io.StringIO()
    progress = StatusLine(100, stream=stream)
    for step in range(1, 101):
        progress.update(step, {"loss": 2.0, "accuracy": 0.25}, 1234.0, None, 617)
    assert stream.getvalue().splitlines() == [
        "step 1/100  loss 2.0000  accuracy 0.2500  1.23k tokens/s  50s left",
        "step 100/100  loss 2.0000  accuracy 0.2500  1.23k tokens/s  0s left",
    ]


def test_on_a_terminal_one_line_is_written_over():
    stream = Terminal()
    progress = StatusLine(10, stream=stream)
    progress.update(1, {"loss": 12.0}, None, None, 100)
    progress.update(10, {"loss": 2.0}, 100.0, 0.456, 100)
    progress.say("done")
    assert stream.getvalue() == (
        "\rstep 1/10  loss 12.0000\rstep 10/10  loss 2.0000  100 tokens/s  MFU 45.6%  0s left\ndone\n"
    )


def test_other_hosts_are_silent():
    stream = io.StringIO()
    progress = StatusLine(10, enabled=False, stream=stream)
    progress.update(1, {"loss": 1.0}, None, None, 1)
    progress.say("hello")
    progress.close()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(44.6, "45s"), (125, "2m05s"), (3 * 3600 + 1200, "3h20m"), (2 * 86400 + 4 * 3600, "2d04h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(950, "950"), (12_345, "12.3k"), (1.678e12, "1.68T"), (2.5e6, "2.5M")])
def test_large_numbers(number, text):
    assert shortened(number) == text


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("NVIDIA H200", 989e12),
        ("cpu", None),
    ],
)
def test_peaks_by_device_kind(kind, peak):
    device = type("Device", (), {"device_kind": kind})()
    assert peak_flops(device) == peak

"""Real processes that join: they leave together, or end together with the reason."""

import signal

import pytest

from tests.processes import free_port, running

_SCRIPT = """
import sys, time
from triarch.runtime import multihost

port, count, number, does = sys.argv[1:]

def explain(text):
    print("ended:", text, flush=True)

place = multihost.find_place(f"localhost:{port}", int(count), int(number))
with multihost.joined(place, startup_timeout=120, heartbeat_timeout=5, explain=explain, say=print):
    import jax
    print("devices:", jax.device_count(), jax.local_device_count(), flush=True)
    if does == "raise":
        raise ValueError("nothing is right")
    if does == "wait":
        time.sleep(120)
print("left", flush=True)
"""


def processes(tmp_path, *does):
    port = free_port()
    commands = {number: [port, len(does), number, what] for number, what in enumerate(does)}
    return running(_SCRIPT, commands, tmp_path, devices=2)


def test_all_devices_are_seen_and_all_leave(tmp_path):
    with processes(tmp_path, "leave", "leave") as group:
        group.finish()
        for number in (0, 1):
            assert "devices: 4 2\n" in group.said(number)
            assert "left\n" in group.said(number)


@pytest.mark.slow
@pytest.mark.parametrize("does", [("raise", "wait", "wait"), ("wait", "raise", "wait")])
def test_one_fails_and_says_why(tmp_path, does):
    with processes(tmp_path, *does) as group:
        ends = group.wait()
        failed = does.index("raise")
        # A ValueError is no mistake of the user's: status 70.
        assert ends == {number: 70 if number == failed else 1 for number in range(3)}
        for number in range(3):
            if number == failed:
                assert "ValueError: nothing is right" in group.said(number)
                assert "ended:" not in group.said(number)
            else:
                assert f"ended: process {failed} (host " in group.said(number)
                assert ") failed: nothing is right" in group.said(number)


@pytest.mark.slow
@pytest.mark.parametrize("silent", [0, 1])
def test_one_falls_silent(tmp_path, silent):
    """A stopped process stands for a machine that has vanished: its connections stay open."""
    with processes(tmp_path, "wait", "wait") as group:
        other = 1 - silent
        group.until(lambda: "devices: 4 2\n" in group.said(other))
        group.processes[silent].send_signal(signal.SIGSTOP)
        assert group.processes[other].wait(60) == 1
        assert f"ended: process {silent} (host " in group.said(other)
        assert "gave no sign of life for " in group.said(other)

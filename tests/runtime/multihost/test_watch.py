"""Processes that are gone, silent or failed end all others with the reason."""

import queue
import threading
import time

import pytest

from tests.runtime.multihost.test_meeting import gather, places
from triarch.runtime.multihost import watch
from triarch.runtime.multihost.watch import Watch


class Ended(BaseException):
    """Takes the place of the end of a process."""


@pytest.fixture
def watched(monkeypatch):
    """Starts watches over `count` processes, played by threads; gives them and a queue of (process, last words)."""
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    monkeypatch.setattr(watch, "_flush", lambda: None)
    monkeypatch.setattr(watch, "_FAREWELL_SECONDS", 0.5)
    started, words = [], queue.Queue()

    def end(status):
        thread = threading.current_thread()
        close(thread)
        raise Ended

    def close(thread):
        for connection in thread._meeting.connections.values():
            connection.close()

    def start(count, timeout=20.0, stall_timeout=0.0):
        for one in sorted(gather(places(count, range(count))), key=lambda one: one.place.process_id):
            number = one.place.process_id
            started.append(Watch(one, timeout, lambda text, number=number: words.put((number, text)), stall_timeout))
        for one in started:
            one.start()
        return started, words

    monkeypatch.setattr(watch.os, "_exit", end)
    yield start
    for one in started:
        one._over.set()
        one.join(5)
        close(one)


def gone(one):
    """What is left of a process that was killed: its connections are closed."""
    one._over.set()
    one.join(5)
    for connection in one._meeting.connections.values():
        connection.close()


def last_words(words, numbers, seconds=10.0):
    said = dict(words.get(timeout=seconds) for _ in numbers)
    assert sorted(said) == sorted(numbers)
    assert len(set(said.values())) == 1
    return said.popitem()[1]


@pytest.mark.parametrize(("killed", "others"), [(1, [0, 2]), (0, [1, 2])])
def test_one_is_killed(watched, killed, others):
    started, words = watched(3)
    gone(started[killed])
    text = last_words(words, others)
    assert text.startswith(f"process {killed} (host ")
    assert text.endswith(") ended without a word (killed, or its machine went away)")


@pytest.mark.parametrize(("silent", "others"), [(2, [0, 1]), (0, [1, 2])])
def test_one_falls_silent(watched, silent, others):
    started, words = watched(3, timeout=1.0)
    started[silent]._over.set()  # Its connections stay open.
    text = last_words(words, others)
    assert text.startswith(f"process {silent} (host ")
    assert "gave no sign of life for 1s (--heartbeat_timeout)" in text


@pytest.mark.parametrize(("failed", "others"), [(1, [0, 2]), (0, [1, 2])])
def test_one_fails(watched, failed, others):
    started, words = watched(3)
    started[failed].fail("no space left on the disk")
    gone(started[failed])
    text = last_words(words, others)
    assert text.startswith(f"process {failed} (host ")
    assert text.endswith(" failed: no space left on the disk")


def test_all_leave_and_nobody_is_missed(watched):
    started, words = watched(4, timeout=2.0)
    leaving = [threading.Thread(target=one.leave) for one in started]
    for thread in leaving[2:]:
        thread.start()
        thread.join(5)
        gone(started[leaving.index(thread)])
    leaving[0].start()
    leaving[0].join(0.5)
    assert leaving[0].is_alive(), "the first one waits for all others"
    leaving[1].start()
    leaving[0].join(5)
    assert not leaving[0].is_alive()
    assert words.empty()


def test_all_are_alive_and_none_moves(watched):
    started, words = watched(3, timeout=0.4, stall_timeout=1.0)
    time.sleep(1.2)  # Before the first step there is no telling how long it takes.
    assert words.empty()
    for _ in range(4):
        for one, step in zip(started, (4, 4, 3), strict=True):
            one.at_step(step)
        time.sleep(0.3)
    assert words.empty()
    text = last_words(words, [0, 1, 2])
    assert text.startswith("no new step for 1s (--stall_timeout): process 2 (host ")
    assert text.endswith(") at step 3, the others at step 4")


def test_who_is_behind(watched):
    started, _ = watched(3, timeout=0.4)
    for one, step in zip(started, (7, 6, 7), strict=True):
        one.at_step(step)
    deadline = time.monotonic() + 10
    expected = f"{started[0].describe(1)} at step 6, the others at step 7"
    while started[0].behind() != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert started[0].behind() == expected
    started[1].at_step(7)
    while started[0].behind() is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert started[0].behind() is None

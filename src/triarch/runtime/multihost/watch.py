"""Notices, while several processes work, that one of them is gone or has failed, and ends all with the reason.

A collective whose partner is gone waits for ever on a TPU; the process must be ended from another thread. Process 0
hears from all others and decides; it is the last to go, since jax's coordinator lives in it.
"""

from __future__ import annotations

import os
import selectors
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn, cast

from triarch.runtime.multihost.meeting import Meeting
from triarch.runtime.multihost.messages import Connection, Message, Stranger

_MOST_BEAT_SECONDS = 5.0
_FAREWELL_SECONDS = 5.0
_FAILED = 1


class Watch(threading.Thread):
    """Sends signs of life, and ends this process when another one's are missing."""

    def __init__(self, meeting: Meeting, timeout: float, explain: Callable[[str], None], stall_timeout: float = 0.0):
        """A watch over the processes of `meeting`.

        Args:
          meeting: who is there.
          timeout: seconds without a sign of life after which a process counts as gone.
          explain: called with one line for the user before this process is ended.
          stall_timeout: seconds without a new step, once there was one, after which all are ended; 0 for never.
        """
        super().__init__(daemon=True, name="watch over the other processes")
        self._meeting = meeting
        self._place = meeting.place
        self._timeout = timeout
        self._explain = explain
        self._stall_timeout = stall_timeout
        self._moved = 0.0
        self._beat_seconds = min(_MOST_BEAT_SECONDS, timeout / 4)
        self._heard: dict[int, float] = {}
        self._left: set[int] = set()
        self._steps = dict.fromkeys(meeting.hosts, 0)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._all_left = threading.Event()

    def at_step(self, step: int) -> None:
        """Notes which step this process has begun."""
        self._steps[self._place.process_id] = step
        self._moved = time.monotonic()

    def behind(self) -> str | None:
        """Names the processes that have begun fewer steps than others; None if there are none. Process 0 knows."""
        furthest = max(self._steps.values())
        late = [number for number, step in self._steps.items() if step < furthest]
        if not late:
            return None
        first = min(self._steps[number] for number in late)
        return f"{self.describe(*late)} at step {first}, the others at step {furthest}"

    def describe(self, *numbers: int) -> str:
        """Names processes and their hosts."""
        return self._place.describe(numbers, self._meeting.hosts)

    def run(self) -> None:
        """Listens until the run is over."""
        now = time.monotonic()
        self._heard = dict.fromkeys(self._meeting.connections, now)
        next_beat = now
        with selectors.DefaultSelector() as selector:
            for number, connection in self._meeting.connections.items():
                selector.register(connection, selectors.EVENT_READ, number)
            while not self._over.is_set():
                for key, _ in selector.select(timeout=min(0.2, self._beat_seconds)):
                    if not self._hear(key.data, cast(Connection, key.fileobj)):
                        selector.unregister(key.fileobj)
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + self._beat_seconds
                    self._beat()

    def fail(self, reason: str) -> None:
        """Tells all others that this process has failed; they end. Returns when they have, or after some seconds."""
        if not self._take_over():
            # The other thread is about to end this process, and says why.
            threading.Event().wait()
        if self._place.process_id == 0:
            self._end_others(f"{self.describe(0)} failed: {reason}")
        else:
            self._meeting.connections[0].send({"failed": reason})

    def leave(self) -> None:
        """Ends the watch: this process is done. Process 0 waits for the others to be done, or to be gone."""
        for connection in self._meeting.connections.values():
            connection.send({"leave": True})
        if self._place.process_id == 0:
            self._all_left.wait()
        self._take_over()

    def _beat(self) -> None:
        self._send_all({"step": self._steps[self._place.process_id]})
        for number, heard in self._heard.items():
            silent = time.monotonic() - heard
            if number not in self._left and silent > self._timeout:
                self._lost(f"{self.describe(number)} gave no sign of life for {silent:.0f}s (--heartbeat_timeout)")
        if self._place.process_id == 0 and self._moved and self._stall_timeout:
            stalled = time.monotonic() - self._moved
            if stalled > self._stall_timeout:
                behind = self.behind() or f"all at step {self._steps[0]}"
                self._lost(f"no new step for {stalled:.0f}s (--stall_timeout): {behind}")

    def _hear(self, number: int, connection: Connection) -> bool:
        """Takes in what a process says; returns whether there may be more."""
        try:
            messages = connection.receive()
        except Stranger as error:
            self._lost(f"{self.describe(number)} sent what makes no sense ({error})")
        if messages is None:
            if number not in self._left:
                self._lost(f"{self.describe(number)} ended without a word (killed, or its machine went away)")
            return False
        self._heard[number] = time.monotonic()
        for message in messages:
            self._obey(number, message)
        return True

    def _obey(self, number: int, message: Message) -> None:
        if "step" in message:
            self._steps[number] = int(message["step"])
        if "stop" in message:
            self._lost(str(message["stop"]))
        if "failed" in message:
            self._left.add(number)
            self._lost(f"{self.describe(number)} failed: {message['failed']}")
        if "leave" in message:
            self._left.add(number)
            if len(self._left) == len(self._meeting.connections):
                self._all_left.set()

    def _lost(self, reason: str) -> NoReturn:
        """Ends this process, and where it is process 0 all others before it."""
        if not self._take_over():
            raise SystemExit  # Of this thread: the first one has met an error of its own, and tells of that.
        if self._place.process_id == 0:
            self._end_others(reason)
        self._explain(reason)
        _flush()
        os._exit(_FAILED)

    def _end_others(self, reason: str) -> None:
        """Tells the other processes to end, and waits until they have: jax crashes those that outlive process 0."""
        self._send_all({"stop": reason})
        deadline = time.monotonic() + _FAREWELL_SECONDS
        with selectors.DefaultSelector() as selector:
            for number, connection in self._meeting.connections.items():
                if number not in self._left:
                    selector.register(connection, selectors.EVENT_READ)
            while selector.get_map() and time.monotonic() < deadline:
                for key, _ in selector.select(timeout=0.1):
                    if _has_ended(cast(Connection, key.fileobj)):
                        selector.unregister(key.fileobj)

    def _take_over(self) -> bool:
        """Returns whether the caller is the first to end the watch, and so the one to say why."""
        with self._lock:
            first = not self._over.is_set()
            self._over.set()
            return first

    def _send_all(self, message: Message) -> None:
        for number, connection in self._meeting.connections.items():
            if number not in self._left:
                connection.send(message)


def end_at_exit(status: int, seconds: float) -> None:
    """Makes this process end with `status` after what it still prints, within some seconds whatever hangs.

    jax and Orbax would wait minutes for companions that will not come any more.
    """
    import atexit

    def end() -> None:
        _flush()
        os._exit(status)

    atexit.register(end)
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _has_ended(connection: Connection) -> bool:
    try:
        return connection.receive() is None
    except Stranger:
        return True

"""How the processes of a run find each other: process 0 listens where jax's coordinator will, the others call.

`jax.distributed` alone ends a process whose companions do not come with a crash that names none of them. So all meet
first, on the same port, and its service starts once everybody is there; the connections stay, for `watch.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib.metadata
import os
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any, cast

from triarch.errors import UserError
from triarch.runtime.multihost.messages import Connection, Message, Stranger
from triarch.runtime.multihost.place import ProcessPlace, this_host

Say = Callable[[str], None]

_QUIET_SECONDS = 10.0
_CALL_SECONDS = 5.0
_PAUSE_SECONDS = 0.2
# Process 0 speaks first when time is up, so that all name the same ones.
_MARGIN_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class Meeting:
    """All processes of a run, in touch.

    Attributes:
      place: of this process.
      hosts: name of every process's host, by process.
      connections: of process 0 to every other one, by process; of the others to process 0.
    """

    place: ProcessPlace
    hosts: dict[int, str]
    connections: dict[int, Connection]


def meet(place: ProcessPlace, timeout: float, say: Say) -> Meeting:
    """Waits until all processes are there.

    Args:
      place: of this process.
      timeout: seconds to wait.
      say: called with a line for the user when it takes long.

    Raises:
      UserError: some did not come (named), two are the same, or they were started differently.
    """
    return _Hub(place, timeout, say).wait() if place.process_id == 0 else _call(place, timeout, say)


def _hello(place: ProcessPlace) -> Message:
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("triarch", "jax"))
    return {
        "process": place.process_id,
        "host": this_host(),
        "num_processes": place.num_processes,
        "versions": versions,
    }


class _Waiting:
    """Tells the user now and then who is waited for, and how long still."""

    def __init__(self, timeout: float, say: Say):
        self._say = say
        self._deadline = time.monotonic() + timeout
        self._next = time.monotonic() + _QUIET_SECONDS

    @property
    def left(self) -> float:
        """Seconds left."""
        return self._deadline - time.monotonic()

    def mention(self, whom: str) -> None:
        """Says that `whom` is waited for, unless that was said a moment ago."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _QUIET_SECONDS
            self._say(f"waiting for {whom}, for up to {max(0.0, self.left):.0f}s more")


class _Hub:
    """Process 0 while it waits for the others."""

    def __init__(self, place: ProcessPlace, timeout: float, say: Say):
        self._place = place
        self._timeout = timeout
        self._waiting = _Waiting(timeout, say)
        self._hello = _hello(place)
        self._hosts: dict[int, str] = {0: this_host()}
        self._arrived: dict[int, Connection] = {}
        self._selector = selectors.DefaultSelector()

    def wait(self) -> Meeting:
        with self._listen() as server, self._selector:
            self._selector.register(server, selectors.EVENT_READ)
            try:
                while self._missing():
                    self._look(server)
            except UserError as error:
                for connection in self._arrived.values():
                    connection.send({"stop": str(error)})
                raise
        for connection in self._arrived.values():
            connection.send({"hosts": [self._hosts[number] for number in range(self._place.num_processes)]})
        return Meeting(self._place, self._hosts, self._arrived)

    def _look(self, server: socket.socket) -> None:
        for key, _ in self._selector.select(timeout=_PAUSE_SECONDS):
            if key.fileobj is server:
                with contextlib.suppress(ConnectionError):  # A caller that hung up at once.
                    self._selector.register(Connection(server.accept()[0]), selectors.EVENT_READ)
            else:
                self._hear(cast(Connection, key.fileobj))
        whom = self._place.describe(self._missing(), self._hosts)
        self._waiting.mention(whom)
        if self._waiting.left <= 0:
            count = self._place.num_processes
            raise UserError(
                f"{whom} of {count} did not arrive at {self._place.coordinator} within {self._timeout:.0f}s "
                "(--startup_timeout): look at the logs there"
            )

    def _hear(self, connection: Connection) -> None:
        try:
            messages = connection.receive()
        except Stranger:
            messages = None
        if messages is None:
            # It gave up, or was never one of us; it may come back.
            self._selector.unregister(connection)
            connection.close()
            for number in [number for number, known in self._arrived.items() if known is connection]:
                del self._arrived[number]
            return
        for message in messages:
            if message.keys() >= self._hello.keys():
                self._welcome(connection, message)

    def _welcome(self, connection: Connection, hello: Message) -> None:
        number: Any = hello.get("process")
        host = str(hello.get("host"))
        others = {key: hello.get(key) for key in ("num_processes", "versions")}
        for key, value in others.items():
            if value != self._hello[key]:
                self._refuse(
                    connection, f"process {number} (host {host}) has {key} {value}, process 0 {self._hello[key]}"
                )
        if not isinstance(number, int) or not 0 <= number < self._place.num_processes:
            self._refuse(connection, f"a process on host {host} calls itself {number!r}")
        if number == 0 or number in self._arrived:
            self._refuse(
                connection,
                f"two processes say they are process {number}, on host {self._hosts[number]} and host {host}: "
                "give each its own --process_id",
            )
        self._hosts[number] = host
        self._arrived[number] = connection

    def _refuse(self, connection: Connection, reason: str) -> None:
        connection.send({"stop": reason})
        raise UserError(reason)

    def _missing(self) -> list[int]:
        return [number for number in range(1, self._place.num_processes) if number not in self._arrived]

    def _listen(self) -> socket.socket:
        port = self._place.address[1]
        while True:
            try:
                if socket.has_dualstack_ipv6():
                    return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
                return socket.create_server(("", port), backlog=4096)
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                # The run before this one may still be ending.
                if error.errno != errno.EADDRINUSE or self._waiting.left <= 0:
                    raise UserError(
                        f"--coordinator={self._place.coordinator}: process 0 cannot listen there: {reason}"
                    ) from error
            self._waiting.mention(f"port {port}, which another process on this host has")
            time.sleep(_PAUSE_SECONDS)


def _call(place: ProcessPlace, timeout: float, say: Say) -> Meeting:
    waiting = _Waiting(timeout + _MARGIN_SECONDS, say)
    failure = "nobody answered"
    while waiting.left > 0:
        try:
            connection = Connection(socket.create_connection(place.address, timeout=_CALL_SECONDS))
        except OSError as error:
            failure = error.strerror or str(error) or failure
        else:
            hosts = _await_all(connection, place, waiting)
            if hosts is not None:
                return Meeting(place, dict(enumerate(hosts)), {0: connection})
            connection.close()
            failure = "the connection was closed again"
        waiting.mention(f"{place.describe([0], {})} at {place.coordinator} ({failure})")
        time.sleep(_PAUSE_SECONDS)
    raise UserError(
        f"{place.describe([0], {})} did not answer process {place.process_id} at {place.coordinator} within "
        f"{timeout:.0f}s ({failure}; --startup_timeout): look at the log there"
    )


def _await_all(connection: Connection, place: ProcessPlace, waiting: _Waiting) -> list[str] | None:
    """Returns all hosts once everybody is there; None if the other end has gone or is no process of a run."""
    connection.send(_hello(place))
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while waiting.left > 0:
            if not selector.select(timeout=_PAUSE_SECONDS):
                continue
            try:
                messages = connection.receive()
            except Stranger:
                messages = None
            if messages is None:
                return None
            for message in messages:
                if "stop" in message:
                    raise UserError(str(message["stop"]))
                if "hosts" in message:
                    return [str(host) for host in message["hosts"]]
    return None

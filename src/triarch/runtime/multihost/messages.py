"""Lines of JSON over a TCP connection between two processes of a run."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

Message = dict[str, Any]

_LONGEST = 1 << 20
_SEND_SECONDS = 10.0


class Stranger(Exception):
    """The other end does not speak this language: it is no process of a triarch run."""


class Connection:
    """One end of a connection; any thread may send, one receives."""

    def __init__(self, sock: socket.socket):
        self._socket = sock
        self._socket.settimeout(_SEND_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """Returns the file descriptor, for a selector."""
        return self._socket.fileno()

    def send(self, message: Message) -> bool:
        """Sends a message; returns whether the connection took it."""
        try:
            with self._sending:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def receive(self) -> list[Message] | None:
        """Returns the messages that are there, waiting for some bytes; None when the other end has closed.

        Raises:
          Stranger: what came is no message.
        """
        try:
            data = self._socket.recv(1 << 16)
        except OSError:
            return None
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        if len(self._unread) > _LONGEST:
            raise Stranger("a line without end")
        return [_parse(line) for line in lines]

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()


def _parse(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Stranger("no JSON") from error
    if not isinstance(message, dict):
        raise Stranger("no JSON object")
    return message

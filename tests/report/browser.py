"""A browser without a window or network, asked over its debugging pipe: pages have all the time they need to draw."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND")


@contextlib.contextmanager
def opened(page: Path, profile: Path, seconds: float) -> Iterator[Callable[[str], object]]:
    """Gives a function that evaluates JavaScript in the page and returns its value, for so many seconds at most."""
    asks, replies = os.pipe(), os.pipe()
    redirected = f'exec "$@" 3<&{asks[0]} 4>&{replies[1]}'  # The browser reads from 3 and writes to 4.
    command = ["chromium", *_FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", redirected, "bash", *command],
        pass_fds=(asks[0], replies[1]),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for end in (asks[0], replies[1]):
        os.close(end)
    limit = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
    limit.start()
    with os.fdopen(asks[1], "wb", 0) as out, os.fdopen(replies[0], "rb") as into:
        try:
            session = _Session(out, into)
            target = session.send("Target.createTarget", url=page.as_uri())["targetId"]
            session.name = session.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            yield session.evaluate
        finally:
            limit.cancel()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class _Session:
    """Messages of the DevTools protocol, each ended by a zero byte."""

    def __init__(self, out, into):
        self._out, self._into = out, into
        self._numbers = itertools.count(1)
        self.name = None

    def send(self, method: str, **parameters) -> dict:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.name:
            message["sessionId"] = self.name
        self._out.write(json.dumps(message).encode() + b"\0")
        while (reply := self._read()).get("id") != number:
            pass
        assert "error" not in reply, reply
        return reply["result"]

    def evaluate(self, expression: str) -> object:
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def _read(self) -> dict:
        message = bytearray()
        while (byte := self._into.read(1)) != b"\0":
            assert byte, "the browser has ended"
            message += byte
        return json.loads(message)

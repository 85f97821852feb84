"""A run in an emulator of Google Cloud Storage, by real processes: faults on the way, kill -9, two writers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from triarch.remote import Objects, runs

from .test_verbs import journey, prepare

pytest.importorskip("gcsfs")
server = pytest.importorskip("gcp_storage_emulator.server")
pytestmark = pytest.mark.slow


class Proxy:
    """Stands before the emulator: answers 503, waits, or cuts connections, each now and then."""

    def __init__(self, port):
        self.target, self.count, self.faults = port, 0, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        self.count += 1
        number = self.count if self.faults else 0
        with client, socket.create_connection(("127.0.0.1", self.target)) as behind:
            if number % 7 == 3:
                client.recv(2**16)
                client.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            if number % 7 == 5:
                time.sleep(1.0)
            threading.Thread(target=self._pass, args=(behind, client, None), daemon=True).start()
            # A connection that is cut in the middle of what is sent.
            self._pass(client, behind, 20_000 if number % 5 == 4 else None)

    @staticmethod
    def _pass(source, sink, most):
        try:
            while data := source.recv(2**14):
                sink.sendall(data)
                most = None if most is None else most - len(data)
                if most is not None and most < 0:
                    break
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    emulator = server.create_server("127.0.0.1", port, in_memory=True, default_bucket="b")
    emulator.start()
    one = Proxy(port)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{one.port}")
    monkeypatch.setenv("TRIARCH_CACHE", str(tmp_path / "cache"))
    yield one
    one.listener.close()
    emulator.stop()


def start(*argv, **environment):
    command = [sys.executable, "-m", "triarch", *argv]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=os.environ | environment, **pipes)


def call(*argv):
    process = start(*argv)
    output = process.communicate(timeout=500)[0]
    assert process.returncode == 0, output


def test_a_run_through_503s_slow_answers_and_cut_connections(proxy, tmp_path):
    proxy.faults = True
    journey("gs://b/work", tmp_path, call)
    assert proxy.count > 20


def test_kill_9_and_two_writers(proxy, tmp_path):
    prepare("gs://b/work", tmp_path, call)
    url = "gs://b/work/runs/long"
    train = ("train", f"--gin_file={tmp_path / 'run.gin'}", f"--workdir={url}", "--gin.RunConfig.steps=4000")
    first = start(*train)
    objects = Objects(url)
    while not runs.checkpoint_lists(objects):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.5)
    second = start(*train, TRIARCH_CACHE=str(tmp_path / "other"))
    assert "another process is training in this run folder" in second.communicate()[0] and second.returncode == 1
    first.send_signal(signal.SIGKILL)
    first.communicate()
    lists = runs.checkpoint_lists(objects)
    here = objects.sizes("checkpoints")
    for step, names in lists.items():
        assert all(here[f"checkpoints/{step}/{name}"] == size for name, size in names.items())
    again = start(*train)
    seen = []
    for line in again.stdout:
        seen.append(line)
        if "going on from step" in line:
            break
    assert int(seen[-1].partition("going on from step")[2].split()[0]) >= max(lists), seen
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=200)
    assert again.returncode == 0 and max(runs.checkpoint_lists(objects)) > max(lists)
    assert objects.sizes(".triarch/claims") == {}

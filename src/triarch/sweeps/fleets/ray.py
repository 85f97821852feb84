"""A Ray cluster: one job a run, handed in through the cluster's own job server."""

from __future__ import annotations

import json
import os
import shlex
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triarch.errors import UserError
from triarch.sweeps.fleets.base import NoAnswer, Task, check_options

_SECONDS = 60.0
_DEFAULT = "http://127.0.0.1:8265"
_MOST_BYTES = 2**28


class Ray:
    """Ray's jobs API, spoken over HTTP: nothing of Ray need be installed here.

    Options: `address` of the dashboard (RAY_ADDRESS, or this machine), what a run takes (`cpus`, `gpus`, `resources` as
    TPU=4,other=1), and the `program` that is triarch on its machines.
    """

    name = "ray"
    most_tasks = 1

    def __init__(self, folder: Path, options: Mapping[str, str]):
        """Needs every machine to see `folder`.

        Raises:
          UserError: an option is unknown or wrong.
        """
        del folder
        check_options(self.name, options, ("address", "cpus", "gpus", "resources", "program"))
        address = options.get("address") or os.environ.get("RAY_ADDRESS", _DEFAULT)
        self._address = address.rstrip("/")
        if not self._address.startswith(("http://", "https://")):
            raise UserError(f"--fleet_option=address={address}: expected that of the dashboard, such as {_DEFAULT}")
        self._program = options.get("program", "triarch")
        self._takes: dict[str, Any] = {}
        for name, field in (("cpus", "entrypoint_num_cpus"), ("gpus", "entrypoint_num_gpus")):
            if name in options:
                self._takes[field] = _number(name, options[name])
        pairs = [pair.partition("=") for pair in options.get("resources", "").split(",") if pair]
        if pairs:
            self._takes["entrypoint_resources"] = {key: _number("resources", value) for key, _, value in pairs}
        # A run that takes nothing by Ray's count would start at once, wherever, with all others.
        self._takes = self._takes or {"entrypoint_num_cpus": 1}

    def check(self) -> None:
        try:
            self.living()
        except NoAnswer as error:
            raise UserError(
                f"--fleet=ray: no job server at {self._address} ({error}): start a cluster (ray start --head), or give "
                "--fleet_option=address=..."
            ) from None

    def submit(self, tasks: Sequence[Task]) -> dict[str, str]:
        jobs = {}
        for task in tasks:
            command = f"cd {shlex.quote(str(Path.cwd()))} && exec {self._program} {shlex.join(task.arguments)}"
            request = {"entrypoint": command, "metadata": {"triarch_run": task.owner}, **self._takes}
            try:
                jobs[task.owner] = str(self._asked("POST", request)["submission_id"])
            except (NoAnswer, KeyError, TypeError) as error:
                raise UserError(f"--fleet=ray: {task.owner} is not taken: {error}") from None
        return jobs

    def living(self) -> dict[str, str]:
        states = {"PENDING": "waiting", "RUNNING": "running"}
        try:
            return {
                job["submission_id"]: states[job["status"]]
                for job in self._asked("GET")
                if job["submission_id"] and job["status"] in states
            }
        except (KeyError, TypeError):
            raise NoAnswer("its answer is no list of jobs") from None

    def log(self, job: str) -> str:
        return f"ray job logs --address={self._address} {job}"

    def _asked(self, method: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._address}/api/jobs/", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                return json.loads(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            lines = error.read(2**16).decode(errors="replace").strip().splitlines()
            raise NoAnswer(lines[-1][:300] if lines else str(error)) from None
        except (OSError, ValueError) as error:
            raise NoAnswer(str(getattr(error, "reason", error))) from None


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
        if number >= 0:
            return number
    except ValueError:
        pass
    raise UserError(f"--fleet_option={name}={value}: expected a number from 0 on")

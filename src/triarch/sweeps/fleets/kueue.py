"""Kueue on Kubernetes, as xpk sets a cluster up: one JobSet a run, which waits in a queue for one machine."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triarch.errors import UserError, nearest
from triarch.sweeps.fleets.base import NoAnswer, Task, call, check_options, need, new_file, reason

# Slices of one host on GKE: what its nodes are labelled with, their topology, and chips.
_SLICES = {
    "v4-8": ("tpu-v4-podslice", "2x2x1", 4),
    "v5p-8": ("tpu-v5p-slice", "2x2x1", 4),
    "v5e-1": ("tpu-v5-lite-podslice", "1x1", 1),
    "v5e-4": ("tpu-v5-lite-podslice", "2x2", 4),
    "v5e-8": ("tpu-v5-lite-podslice", "2x4", 8),
    "v6e-1": ("tpu-v6e-slice", "1x1", 1),
    "v6e-4": ("tpu-v6e-slice", "2x2", 4),
    "v6e-8": ("tpu-v6e-slice", "2x4", 8),
}
_DEFAULTS = {
    "namespace": "default",
    "queue": "multislice-queue",  # as xpk names it
    "mount": "/mnt/triarch",
    "accelerator": "",
    "spot": "",
    "cpu": "",
    "memory": "",
}
_STUDY, _RUN = "triarch/study", "triarch/run"


class Kueue:
    """`kubectl`; the claim (persistent volume, mounted at the same place here) holds study, stores and runs."""

    name = "kueue"
    most_tasks = 1  # Of several documents kubectl may take some and refuse the rest.

    def __init__(self, folder: Path, options: Mapping[str, str]):
        """Writes what is handed in to `folder`, which must lie below the mount.

        Raises:
          UserError: an option is unknown, wrong or missing.
        """
        check_options(self.name, options, {*_DEFAULTS, "image", "claim"}, ("image", "claim"))
        self._options = _DEFAULTS | dict(options)
        self._folder = folder.absolute()
        self._study = hashlib.sha256(str(self._folder).encode()).hexdigest()[:16]
        accelerator, mount = self._options["accelerator"], Path(self._options["mount"])
        if accelerator and accelerator not in _SLICES:
            raise UserError(
                f"--fleet_option=accelerator={accelerator}: expected a slice of one host, {', '.join(_SLICES)}"
                f"{nearest(accelerator, _SLICES)}; larger ones run one run each: tpu_scripts/gke/watch.sh"
            )
        if not self._folder.is_relative_to(mount):
            raise UserError(
                f"--output={self._folder.parent}: not below {mount}, where pods see the claim "
                f"{self._options['claim']!r}: mount it there here too, or name the place by --fleet_option=mount=..."
            )

    def check(self) -> None:
        need(self.name, "kubectl", "gcloud components install kubectl, and get the credentials of a cluster")

    def submit(self, tasks: Sequence[Task]) -> dict[str, str]:
        import yaml

        jobs = {task.owner: _job_name(task.owner) for task in tasks}
        documents = [self._job_set(jobs[task.owner], task) for task in tasks]
        path = new_file(self._folder, ".yaml", yaml.safe_dump_all(documents, sort_keys=False))
        try:
            result = call(("kubectl", "create", f"--filename={path}"))
        except NoAnswer as error:
            raise UserError(f"--fleet=kueue: {error}") from None
        if result.returncode != 0:
            raise UserError(f"--fleet=kueue: {path} is not taken: {reason(result)}")
        return jobs

    def living(self) -> dict[str, str]:
        place = (f"--namespace={self._options['namespace']}", f"--selector={_STUDY}={self._study}")
        result = call(("kubectl", "get", "jobsets.jobset.x-k8s.io", *place, "--output=json"))
        if result.returncode != 0:
            raise NoAnswer(f"kubectl: {reason(result)}")
        try:
            items = json.loads(result.stdout)["items"]
            return {item["metadata"]["name"]: _state(item) for item in items if not _ended(item)}
        except (ValueError, KeyError, TypeError):
            raise NoAnswer("kubectl: its answer is no list of JobSets") from None

    def log(self, job: str) -> str:
        return f"kubectl logs --namespace={self._options['namespace']} --selector=jobset.sigs.k8s.io/jobset-name={job}"

    def _job_set(self, name: str, task: Task) -> dict[str, Any]:
        labels = {"kueue.x-k8s.io/queue-name": self._options["queue"], _STUDY: self._study}
        # A node that is taken away is no failure of the run: its pod comes again, and goes on.
        disrupted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
        job = {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": 0,
            "podFailurePolicy": {"rules": [disrupted]},
            "template": {"spec": self._pod(task)},
        }
        return {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {
                "name": name,
                "namespace": self._options["namespace"],
                "labels": labels,
                "annotations": {_RUN: task.owner},
            },
            "spec": {
                "suspend": True,  # Kueue lets it go when there is room.
                "ttlSecondsAfterFinished": 24 * 3600,
                "failurePolicy": {"maxRestarts": 0},
                "replicatedJobs": [{"name": "run", "replicas": 1, "template": {"spec": job}}],
            },
        }

    def _pod(self, task: Task) -> dict[str, Any]:
        options = self._options
        requests = {name: options[name] for name in ("cpu", "memory") if options[name]}
        selector, limits = {}, {}
        environment = []
        if options["accelerator"]:
            kind, topology, chips = _SLICES[options["accelerator"]]
            selector = {"cloud.google.com/gke-tpu-accelerator": kind, "cloud.google.com/gke-tpu-topology": topology}
            requests["google.com/tpu"] = limits["google.com/tpu"] = str(chips)
            # A machine that finds no TPU fails instead of training on its processor.
            environment = [{"name": "JAX_PLATFORMS", "value": "tpu,cpu"}]
        if options["spot"]:
            selector["cloud.google.com/gke-spot"] = "true"
        container = {
            "name": "run",
            "image": options["image"],
            "command": ["triarch", *task.arguments],
            "env": environment,
            "resources": {"requests": requests, "limits": limits},
            "volumeMounts": [{"name": "shared", "mountPath": options["mount"]}],
        }
        return {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 120,
            "nodeSelector": selector,
            "containers": [container],
            "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": options["claim"]}}],
        }


def _job_name(owner: str) -> str:
    """Returns a name that Kubernetes takes, of which every attempt has its own."""
    words = re.sub("[^a-z0-9]+", "-", owner.lower()).strip("-")[:30].strip("-")
    return f"triarch-{words}-{secrets.token_hex(4)}".replace("--", "-")


def _ended(job_set: Mapping[str, Any]) -> bool:
    conditions = job_set.get("status", {}).get("conditions", [])
    return any(one["type"] in ("Completed", "Failed") and one["status"] == "True" for one in conditions)


def _state(job_set: Mapping[str, Any]) -> str:
    return "waiting" if job_set["spec"].get("suspend") else "running"

"""Which of a run's processes this one is: said by the user, or read from the cluster that started it."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import warnings
from collections.abc import Mapping, Sequence

from triarch.errors import UserError

ADDRESS, COUNT, ID = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"

_FLAGS = {ADDRESS: "--coordinator", COUNT: "--num_processes", ID: "--process_id"}
_HOST_LISTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")


@dataclasses.dataclass(frozen=True)
class ProcessPlace:
    """One of several processes.

    Attributes:
      coordinator: HOST:PORT where process 0 is found.
      num_processes: of the run.
      process_id: of this one, from 0 on.
      local_device_ids: GPUs of this host that belong to this process; None for all.
      names: of all processes' hosts where the cluster tells them beforehand.
    """

    coordinator: str
    num_processes: int
    process_id: int
    local_device_ids: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the coordinator."""
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)

    def describe(self, processes: Sequence[int], hosts: Mapping[int, str]) -> str:
        """Names processes, and their hosts as far as these are known: "process 1 (host w1)"."""
        known = dict(enumerate(self.names or ())) | dict(hosts)
        words = [f"{number} (host {known[number]})" if number in known else str(number) for number in processes]
        start = "process" if len(words) == 1 else "processes"
        return f"{start} {' and '.join([', '.join(words[:-1]), words[-1]] if len(words) > 1 else words)}"


def find_place(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: float = 300.0,
    environ: Mapping[str, str] | None = None,
) -> ProcessPlace | None:
    """Returns this process's place among several, or None if it is the only one.

    What is not given comes from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, and what these leave
    open from the cluster, as far as jax knows it: TPU slices (virtual machines, GKE; several of them), SLURM, Open MPI.

    Args:
      coordinator: HOST:PORT of process 0.
      num_processes: of the run; 1 looks no further.
      process_id: of this one.
      timeout: seconds to wait for the coordinator's name to be known.
      environ: variables of the environment.

    Raises:
      UserError: some of the three are known and others are not, or one is out of range.
    """
    environ = os.environ if environ is None else environ
    coordinator = coordinator or environ.get(ADDRESS) or None
    count = num_processes if num_processes is not None else _number(environ, COUNT)
    number = process_id if process_id is not None else _number(environ, ID)
    if count == 1 and number in (None, 0):
        return None
    devices = None
    if None in (coordinator, count, number):
        coordinator, count, number, devices = _from_cluster(coordinator, count, number, timeout)
    found = {ADDRESS: coordinator, COUNT: count, ID: number}
    missing = [name for name, value in found.items() if value is None]
    if len(missing) == len(found) or (count == 1 and number in (None, 0)):
        return None
    if coordinator is None or count is None or number is None:
        given = ", ".join(f"{_FLAGS[name]}={value}" for name, value in found.items() if value is not None)
        needed = ", ".join(f"{_FLAGS[name]} (or {name})" for name in missing)
        raise UserError(f"{given} is not enough to join several processes: give {needed} too")
    return _checked(ProcessPlace(coordinator, count, number, devices, _names(count, environ)))


def _checked(place: ProcessPlace) -> ProcessPlace:
    if place.num_processes < 1:
        raise UserError(f"--num_processes={place.num_processes}: expected at least 1")
    if not 0 <= place.process_id < place.num_processes:
        raise UserError(
            f"--process_id={place.process_id}: with --num_processes={place.num_processes} expected a number from 0 "
            f"to {place.num_processes - 1}"
        )
    if not re.fullmatch(r".+:[0-9]{1,5}", place.coordinator) or not 0 < place.address[1] < 65536:
        raise UserError(f"--coordinator={place.coordinator}: expected HOST:PORT, such as 10.0.0.2:8482")
    return place


def _from_cluster(
    coordinator: str | None, count: int | None, number: int | None, timeout: float
) -> tuple[str | None, int | None, int | None, tuple[int, ...] | None]:
    """Asks jax's detection of clusters, which `jax.distributed.initialize` uses and has no public name."""
    from jax._src.clusters import ClusterEnv

    with warnings.catch_warnings():
        # On Kubernetes it asks for a package that only clusters without TPUs need.
        warnings.simplefilter("ignore")
        try:
            found = ClusterEnv.auto_detect_unset_distributed_params(
                coordinator, count, number, None, None, int(timeout)
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"could not find out which of a cluster's processes this one is ({reason}): give --coordinator, "
                "--num_processes and --process_id, or --num_processes=1"
            ) from error
    coordinator, count, number, devices = found
    return coordinator, count, number, None if devices is None else tuple(devices)


def _names(count: int, environ: Mapping[str, str]) -> tuple[str, ...] | None:
    for variable in _HOST_LISTS:
        names = tuple(name.split(":")[0] for name in environ.get(variable, "").split(","))
        if len(names) == count:
            return names
    return None


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    if not text:
        return None
    if not text.isdecimal():
        raise UserError(f"{name}={text}: expected a whole number")
    return int(text)


def this_host() -> str:
    """Returns the name of this machine."""
    return socket.gethostname()

"""The TPU compiler on a machine without TPUs: libtpu, its devices that are not there, and its flags."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import importlib.util
import math
import os
import re
from pathlib import Path
from typing import Any, Literal

import jax

from triarch.errors import UserError
from triarch.planning.topology import Topology

Effort = Literal["full", "quick"]
_CHIPS_PER_HOST = (2, 2, 1)
_FLAGS_FILE = "xla_flags.txt"
_NEEDED = re.compile(r"(?:Used |\()([\d.]+)([KMGT])(?: of|\) exceeds available)")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class OutOfMemory(Exception):
    """The program needs more memory than a device has.

    Attributes:
      complaint: of the compiler, in one line.
      needed: bytes a device, or None where the compiler does not say.
      text: the whole complaint.
    """

    def __init__(self, text: str):
        self.text = text
        self.complaint = " ".join(text.split("\n")[0].removeprefix("RESOURCE_EXHAUSTED: ").split())
        super().__init__(self.complaint)
        found = _NEEDED.search(text)
        self.needed = int(float(found[1]) * _UNITS[found[2]]) if found else None


def devices(topology: Topology) -> list[Any]:
    """Returns the devices of slices that need not exist; arrays cannot be put there, but programs compiled for them.

    Raises:
      UserError: libtpu is not installed, or another process holds it.
    """
    _load()
    from jax.experimental import topologies

    chips_per_host = _CHIPS_PER_HOST if math.prod(topology.shape) > 1 else (1, 1, 1)
    shape = "x".join(map(str, topology.shape))
    try:
        description = topologies.get_topology_desc(
            platform="tpu",
            topology_name=f"{topology.chip.compiler_name}:{shape}",
            chip_config_name=topology.chip.compiler_config,
            chips_per_host_bounds=chips_per_host,
            num_slices=topology.slices,
        )
    except Exception as error:
        raise _explained(error) from error
    return list(description.devices)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled program as far as a plan asks.

    Attributes:
      text: its instructions.
      peak_bytes: most bytes in use at once, arguments included.
      argument_bytes: of arguments.
      output_bytes: of results that do not overwrite arguments.
      temp_bytes: what is reserved beside arguments.
    """

    text: str
    peak_bytes: int
    argument_bytes: int
    output_bytes: int
    temp_bytes: int


def compile_for(topology: Topology, lowered: jax.stages.Lowered, dump: Path | None = None) -> Compiled:
    """Compiles a program with the flags that tpu_scripts run it with.

    Args:
      topology: the slice.
      lowered: the program.
      dump: folder in which the compiler leaves the program at each of its stages.

    Raises:
      OutOfMemory: it does not fit.
      UserError: another process holds libtpu.
    """
    dumps: dict[str, str | bool] = {} if dump is None else {"xla_dump_to": str(dump), "xla_dump_hlo_as_text": True}
    try:
        compiled = lowered.compile(compiler_options=flags(topology) | dumps)
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise _explained(error) from error
        raise OutOfMemory(str(error)) from error
    memory, text = compiled.memory_analysis(), compiled.as_text()
    assert memory is not None and text is not None  # The TPU's compiler has both.
    return Compiled(
        text=text,
        peak_bytes=memory.peak_memory_in_bytes,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temp_bytes=memory.temp_size_in_bytes,
    )


@functools.cache
def flags(topology: Topology) -> dict[str, str | bool]:
    """Returns the compiler's options for a generation, from tpu_scripts/xla_flags.txt."""
    generation = topology.chip.generation
    wanted = {generation, f"{generation}+multislice"} if topology.slices > 1 else {generation}
    options: dict[str, str | bool] = {}
    for line in _flags_file().read_text().splitlines():
        if line and not line.startswith("#"):
            generations, flag = line.split()[:2]
            if wanted & set(generations.split(",")):
                name, _, value = flag.removeprefix("--").partition("=")
                options[name] = value
    return options


def versions() -> str:
    """Returns what compiles: the versions of jax and libtpu.

    Raises:
      UserError: libtpu is not installed as a package.
    """
    _require_libtpu()
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("jax", "libtpu"))


def _flags_file() -> Path:
    """In the checkout, or in the installed package."""
    checkout = Path(__file__).parents[3] / "tpu_scripts" / _FLAGS_FILE
    return checkout if checkout.is_file() else Path(__file__).parents[1] / "tpu_scripts" / _FLAGS_FILE


def _require_libtpu() -> None:
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "the TPU compiler is not installed: pip install 'triarch[tpu]' brings libtpu (Linux only; it needs no TPU)"
        )


def require() -> None:
    """Raises UserError where there is no compiler to be had."""
    if not os.environ.get("TPU_LIBRARY_PATH"):
        _require_libtpu()


def _load() -> None:
    require()
    # No TPU is touched: the metadata server need not be asked, and other processes may hold the library too.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    # Which chips this machine has: libtpu complains where it cannot find out.
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5p-8")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")


def _explained(error: Exception) -> Exception:
    text = " ".join(str(error).split())
    if "already in use" in text or "libtpu_lockfile" in text or text.startswith("ABORTED"):
        return UserError(
            "libtpu is locked by another process: unset ALLOW_MULTIPLE_LIBTPU_LOAD, or wait until that process ends"
        )
    return error

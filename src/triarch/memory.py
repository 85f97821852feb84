"""How much memory there is, and what an error says of memory that could not be had."""

from __future__ import annotations

import os
import re
from pathlib import Path

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}
# What the CPU's, the GPU's and the TPU's runtime and compiler, numpy, C++ and the system say.
_SIGNS = re.compile(
    r"RESOURCE_EXHAUSTED|[Oo]ut of memory|[Uu]nable to allocate|bad_alloc|Cannot allocate memory|[Rr]an out of memory"
)
_ASKED = re.compile(r"(?:allocat\w+|size=|Used)\D{0,40}?(\d+(?:\.\d+)?) ?([KMGTP]?)(?:i?B|bytes?)?\b")
# Limits of the container this process runs in: version 2 of control groups, and version 1.
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def host_bytes() -> int:
    """Returns the memory that this machine's processes can have together: with swap, and within the container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") + _swap_bytes()
    limits = [_number(Path(path)) for path in _CONTAINER_LIMITS]
    return min([total, *(limit for limit in limits if limit)])


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error, of Python or of a library, says that there was not enough memory."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_SIGNS.search(str(error)))


def asked_bytes(error: BaseException) -> int | None:
    """Returns how much an out-of-memory error says was asked for at once; None if it does not say."""
    found = _ASKED.search(str(error))
    return int(float(found[1]) * _UNITS[found[2]]) if found else None


def shown(num_bytes: float) -> str:
    """Returns a size with its unit, as "1.5 GiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if num_bytes < 1024 or unit == "PiB":
            break
        num_bytes /= 1024
    return f"{num_bytes:.0f} bytes" if unit == "bytes" else f"{num_bytes:,.1f} {unit}"


def _swap_bytes() -> int:
    try:
        found = re.search(r"^SwapTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _number(path: Path) -> int | None:
    """Returns the number in a file; None without one, or where it says "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None

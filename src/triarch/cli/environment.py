"""Settings of the process that must be in place before jax is imported."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

# glibc's numbers for mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_ACCELERATORS = ("/dev/accel0", "/dev/vfio/0", "/dev/nvidia0", "/dev/kfd")


def configure() -> None:
    """Quietens libraries, values the user has set staying; on a machine without accelerators keeps freed memory.

    There libtpu serves `triarch plan` alone: jax, finding it installed, would look for TPUs and complain at length.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    if sys.platform == "linux" and not any(Path(device).exists() for device in _ACCELERATORS):
        _keep_freed_memory()
        if importlib.util.find_spec("libtpu") is not None:
            os.environ.setdefault("JAX_PLATFORMS", "cpu")


def _keep_freed_memory() -> None:
    """Lets malloc reuse the gigabytes of temporaries of a step instead of returning them to the system every time.

    Otherwise each step on the CPU faults all its pages in anew. XLA allocates on threads of its own, whose arenas
    cannot hold large blocks: hence one arena for all.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 1 << 28), (_M_ARENA_MAX, 1)):
        mallopt(parameter, value)

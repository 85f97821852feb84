"""Memory that a process has freed goes back to the system once it adds up."""

import subprocess
import sys

import pytest

# As a step's temporaries: a block that malloc keeps, with a small one behind it that stays.
PROGRAM = """
import ctypes
from triarch.cli import environment
environment.configure()
from triarch.runtime.freed_memory import FreedMemory, _resident_bytes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.free.argtypes = [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_size_t, ctypes.c_int, ctypes.c_size_t]
size = 400 << 20
before = _resident_bytes()
block, behind = libc.malloc(size), libc.malloc(1 << 20)
libc.memset(block, 1, size)
memory = FreedMemory()
for _ in range(5):
    memory.after_step()
libc.free(block)
kept = _resident_bytes()
again = libc.malloc(size + (1 << 20))
libc.memset(again, 1, size)
grown = _resident_bytes()
memory.after_step()
after = _resident_bytes()
libc.free(again)
for _ in range(5):
    memory.after_step()
still = _resident_bytes()
print(*((x - before) / size for x in (kept, grown, after, still)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is of Linux")
def test_what_was_freed_is_given_back_once_it_adds_up():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, grown, after, still = map(float, done.stdout.split())
    assert kept == pytest.approx(1, abs=0.1)  # What was freed is kept for the next step ...
    assert grown == pytest.approx(2, abs=0.1)
    assert after == pytest.approx(1, abs=0.1)  # ... but not for good where that could not use it.
    assert still == pytest.approx(1, abs=0.1)  # Steps that follow find what they use in place.

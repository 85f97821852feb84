"""Several processes as one run: how they find each other, notice that one is gone, and end together.

`place.py` finds out who this process is, `meeting.py` waits until all are there, `watch.py` minds them while they work,
and `joining.py` puts `jax.distributed` between the two. A single process passes through all of it untouched.
"""

from triarch.runtime.multihost.joining import at_step, behind, describe, joined
from triarch.runtime.multihost.place import ProcessPlace, find_place

__all__ = ["ProcessPlace", "at_step", "behind", "describe", "find_place", "joined"]

"""`with joined(place)`: within it this process is one of several, and `jax.devices()` are those of all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import jax

from triarch.errors import UserError, exit_status
from triarch.runtime.multihost.meeting import Say, meet
from triarch.runtime.multihost.place import ProcessPlace
from triarch.runtime.multihost.watch import Watch, end_at_exit

# jax's own heartbeat ends a process without naming anyone: it is to speak only if the watch is itself dead.
_JAX_LATER_SECONDS = 60
_VERDICT_SECONDS = 5.0
_LAST_WORDS_SECONDS = 10.0

_watch: Watch | None = None


@contextlib.contextmanager
def joined(
    place: ProcessPlace | None,
    *,
    startup_timeout: float,
    heartbeat_timeout: float,
    stall_timeout: float = 0.0,
    explain: Callable[[str], None],
    say: Say,
) -> Iterator[None]:
    """Joins the other processes, and leaves them together with all; does nothing where there is only one.

    Within it, a process that is gone or has failed ends all of them: each explains why and exits with status 1. After
    an error of its own this process exits likewise, once the error was reported.

    Args:
      place: of this process; None for the only one.
      startup_timeout: seconds to wait for the others.
      heartbeat_timeout: seconds without a sign of life after which a process counts as gone.
      stall_timeout: seconds without a new step (`at_step`) after which all are ended; 0 for never.
      explain: called with one line before this process is ended from another thread.
      say: called with a line for the user when the start takes long.

    Raises:
      UserError: the others did not come (named), or were started differently.
    """
    global _watch
    if place is None:
        yield
        return
    meeting = meet(place, startup_timeout, say)
    _watch = Watch(meeting, heartbeat_timeout, explain, stall_timeout)
    _watch.start()
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.num_processes,
            place.process_id,
            local_device_ids=place.local_device_ids,
            cluster_detection_method="deactivate",
            initialization_timeout=round(startup_timeout) + 1,
            heartbeat_timeout_seconds=round(heartbeat_timeout) + _JAX_LATER_SECONDS,
        )
        yield
    except BaseException as error:
        if not isinstance(error, UserError | KeyboardInterrupt):
            # A collective also fails because another process is gone: the watch then knows which, and ends this one.
            time.sleep(_VERDICT_SECONDS)
        _watch.fail(" ".join(str(error).split())[:500] or type(error).__name__)
        end_at_exit(exit_status(error), _LAST_WORDS_SECONDS)
        raise
    _watch.leave()
    jax.distributed.shutdown()
    _watch = None


def at_step(step: int) -> None:
    """Lets the other processes know which step this one has begun."""
    if _watch is not None:
        _watch.at_step(step)


def behind() -> str | None:
    """Names the processes that have begun fewer steps than others, if there are any; process 0 knows."""
    return None if _watch is None else _watch.behind()


def describe(*processes: int) -> str:
    """Names processes, with their hosts where they have met."""
    return ProcessPlace("", 0, 0).describe(processes, {}) if _watch is None else _watch.describe(*processes)

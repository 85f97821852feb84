"""Processes that work for this one: deaf to Ctrl-C, which is their parent's to answer, and ended with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Keeps Ctrl-C from this thread, which gets it afterwards, and for good from processes that it starts.

    The terminal tells all processes; these, which may still be importing, wait for their parent's word.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Ends this process, from now on, when its parent is killed; it would wait for work for ever."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()


@contextlib.contextmanager
def sending(begin: Callable[[], None], works: Sequence[Callable[[Connection], None]]) -> Iterator[list[Connection]]:
    """Runs each of `works` in a process of its own, and gives what they send.

    The pipe's buffer bounds what a process has sent and nobody has read; then it waits.

    Args:
      begin: what each process does first, before `works` and the modules that they need are there.
      works: functions of modules, or partial ones; each gets the end of a pipe to send to.
    """
    # Spawned, not forked: the parent may hold TensorFlow's or JAX's threads, whose locks a fork would inherit.
    context = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = []
    ends: list[Connection] = []
    try:
        for work in works:
            ours, theirs = context.Pipe(duplex=False)
            ends.append(ours)
            with theirs, interrupts_blocked():
                process = context.Process(target=_run, args=(begin, pickle.dumps(work), theirs))
                process.start()
                processes.append(process)
        yield ends
    finally:
        for begun in processes:
            begun.kill()
        for begun in processes:
            begun.join()
        for end in ends:
            end.close()


def _run(begin: Callable[[], None], work: bytes, connection: Connection) -> None:
    end_with_parent()
    begin()
    pickle.loads(work)(connection)  # Of the process that started this one.


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

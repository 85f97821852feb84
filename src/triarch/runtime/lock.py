"""One process a run folder: a second one would write over the first one's checkpoints."""

from __future__ import annotations

import contextlib
import errno
import fcntl
from collections.abc import Iterator
from pathlib import Path

from triarch.errors import UserError
from triarch.temporary import clear_leftovers

NO_LOCKS_HERE = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS)


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds the run folder, which is created if missing; the system lets go when the process ends, however it does.

    Removes what killed processes left half written in it.

    Raises:
      UserError: another process is training in it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{workdir}: another process is training in this run folder") from None
        except OSError as error:
            # Some network file systems have no locks; training there is still better than not at all.
            if error.errno not in NO_LOCKS_HERE:
                raise
        clear_leftovers(workdir)
        yield

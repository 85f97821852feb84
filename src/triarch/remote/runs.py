"""A run folder in a bucket: trained in a local copy, which follows behind training; taken up on another machine.

A checkpoint is there once its list of files is, `.triarch/checkpoints/STEP.json`, which is written after them and after
the metrics of its step. Objects that no list names are what a killed process left.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from triarch import schema
from triarch.errors import UserError
from triarch.files import regular_files
from triarch.remote.claims import Claim
from triarch.remote.objects import Objects
from triarch.schema import FileName, MapOf, Whole

CHECKPOINTS = "checkpoints"
SUMMARY = "summary.json"
_HIDDEN = ".triarch/"
_LISTS = f"{_HIDDEN}{CHECKPOINTS}"
_LIST = MapOf(Whole(), least=1, names=FileName(below=True))


def checkpoint_lists(objects: Objects) -> dict[int, dict[str, int]]:
    """Returns the sizes of the files of every whole checkpoint, by step and name below the step's folder.

    Raises:
      UserError: a list is damaged.
    """
    found = {}
    for name in objects.sizes(_LISTS):
        step, _, suffix = name.rpartition("/")[2].partition(".")
        content = objects.read(name) if suffix == "json" and step.isascii() and step.isdigit() else None
        if content is not None:
            place = f"{objects.url}/{name}"
            found[int(step)] = dict(schema.check(schema.parse(content.decode(errors="replace"), place), _LIST, place))
    return found


def fetch_run(
    objects: Objects, folder: Path, steps: Callable[[list[int]], list[int]], items: tuple[str, ...] = ()
) -> None:
    """Copies a run to `folder`: its files, and of its checkpoints those that `steps` chooses.

    Args:
      objects: of the run.
      folder: takes them.
      steps: from those there are to those wanted.
      items: parts of a checkpoint that are wanted; all if empty.

    Raises:
      UserError: an object cannot be read, or is not what its list says.
    """
    there = objects.sizes()
    wanted = {name: size for name, size in there.items() if not name.startswith((_HIDDEN, f"{CHECKPOINTS}/"))}
    lists = checkpoint_lists(objects)
    for step in steps(sorted(lists)):
        for name, size in lists[step].items():
            if items and "/" in name and name.partition("/")[0] not in items:
                continue
            full = f"{CHECKPOINTS}/{step}/{name}"
            if there.get(full) != size:
                raise UserError(
                    f"{objects.url}/{full}: {'is missing' if full not in there else 'is cut short'}: the checkpoint of "
                    f"step {step} is damaged; remove {_LISTS}/{step}.json there to go on from the one before"
                )
            wanted[full] = size
    try:
        objects.download_all(wanted, folder)
    except FileNotFoundError as error:
        raise UserError(f"{objects.url}: changed while it was read ({error}): try again") from None


class RunFolder:
    """A local copy of a run folder whose files follow into the bucket."""

    def __init__(
        self, objects: Objects, folder: Path, claim: Claim, say: Callable[[str], None], stop: Callable[[], None]
    ):
        """Makes nothing yet.

        Args:
          objects: of the run.
          folder: for the local copy; `claim` is noted beside it.
          claim: on the run.
          say: called with a line for the user when the bucket does not take what it is sent.
          stop: called where another process has taken the run.
        """
        self._objects, self._folder, self._claim, self._say, self._stop = objects, folder, claim, say, stop
        self._mark = folder.parent / "claim"
        self._sent: dict[str, tuple[int, int]] = {}
        self._lists: dict[int, dict[str, int]] = {}
        # Checkpoints of which there is a local copy too: those that are gone from here go from the bucket.
        self._here: set[int] = set()
        self._ended = threading.Event()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def followed(self, every: float) -> Iterator[Path]:
        """Gives the local copy, and sends what changes in it, every so many seconds and at the end.

        The claim is released, and the local copy removed, once all has been sent.

        Raises:
          UserError: the run cannot be read, the bucket did not take all, or another process has the folder.
        """
        try:
            self._open()
        except BaseException:
            self._claim.release()
            raise
        thread = threading.Thread(target=self._follow, args=(every,), daemon=True)
        thread.start()
        try:
            yield self._folder
        except BaseException:
            self._end_following(thread)
            try:
                self._send_last()
                self._finish()
            except UserError as error:
                self._say(str(error))
            raise
        self._end_following(thread)
        self._send_last()
        self._finish()

    def _end_following(self, thread: threading.Thread) -> None:
        self._ended.set()
        thread.join()

    def _open(self) -> None:
        """Copies the run's files and its newest checkpoint, and removes what killed processes left in the bucket.

        Where the run's last process was one of this machine, and could not send all that it had, its copy goes on.
        """
        before = self._claim.before
        goes_on = (
            before > 0 and self._mark.is_file() and self._mark.read_text() == f"{before}\n" and self._folder.is_dir()
        )
        self._mark.unlink(missing_ok=True)
        if not goes_on:
            empty(self._folder)
            fetch_run(self._objects, self._folder, lambda steps: steps[-1:])
            self._sent = {name: _state(path) for name, path in self._files().items()}
        else:
            there = self._objects.sizes()
            self._sent = {name: (-1, -1) for name in self._names_of_files(there)}
        self._lists = checkpoint_lists(self._objects)
        self._here = self._local_steps() & set(self._lists)
        listed = {f"{CHECKPOINTS}/{step}/{name}" for step, names in self._lists.items() for name in names}
        self._objects.remove([name for name in self._objects.sizes(CHECKPOINTS) if name not in listed])
        self._mark.write_text(f"{self._claim.number}\n")

    def _finish(self) -> None:
        self._claim.release()
        shutil.rmtree(self._folder.parent, ignore_errors=True)

    def _local_steps(self) -> set[int]:
        folder = self._folder / CHECKPOINTS
        return {int(path.name) for path in folder.glob("*") if path.name.isascii() and path.name.isdigit()}

    @staticmethod
    def _names_of_files(names: Iterable[str]) -> list[str]:
        return [name for name in names if not name.startswith((_HIDDEN, f"{CHECKPOINTS}/"))]

    def send(self) -> None:
        """Sends what has changed: files of new checkpoints, other files, the lists of checkpoints, the summary.

        Raises:
          UserError: the bucket did not take it, or another process has the folder.
        """
        with self._lock:
            self._claim.check()
            steps = self._local_steps()
            new = {step: sizes for step in sorted(steps - set(self._lists)) if (sizes := self._send_step(step))}
            files = self._files()
            summary = files.pop(SUMMARY, None)
            self._send_files(files)
            for step, sizes in new.items():
                # Again: a big checkpoint takes long, and whoever lost the folder must not say that it is whole.
                self._claim.check()
                self._objects.write(f"{_LISTS}/{step}.json", json.dumps(sizes, indent=1).encode())
                self._lists[step] = sizes
            self._here |= set(new)
            self._remove_steps(steps)
            gone = [name for name in self._sent if name != SUMMARY and name not in files]
            if summary is not None:
                self._send_files({SUMMARY: summary})
            elif SUMMARY in self._sent:
                gone.append(SUMMARY)
            self._objects.remove(gone)
            for name in gone:
                del self._sent[name]

    def _send_step(self, step: int) -> dict[str, int] | None:
        """Sends a checkpoint's files; returns their sizes, None where it was removed meanwhile."""
        folder = self._folder / CHECKPOINTS / str(step)
        try:
            files = {path.relative_to(folder).as_posix(): path for path in regular_files(folder, folder)}
            sizes = {name: path.stat().st_size for name, path in files.items()}
            self._objects.upload_all({f"{CHECKPOINTS}/{step}/{name}": path for name, path in files.items()})
            return sizes
        except (OSError, UserError):
            if folder.exists():
                raise
            self._objects.remove(self._objects.sizes(f"{CHECKPOINTS}/{step}"))
            return None

    def _send_files(self, files: dict[str, Path]) -> None:
        states = {}
        for name, path in files.items():
            with contextlib.suppress(FileNotFoundError):
                if self._sent.get(name) != (state := _state(path)):
                    states[name] = state
        self._objects.upload_all({name: files[name] for name in states})
        self._sent |= states

    def _remove_steps(self, steps: set[int]) -> None:
        """Removes checkpoints that were removed here, and, once a newer one is there, what only the bucket had."""
        newest = max(self._here, default=-1)
        for step in sorted(set(self._lists) - steps):
            if step in self._here or step < newest:
                self._objects.remove([f"{_LISTS}/{step}.json"])
                names = self._lists.pop(step)
                self._objects.remove([f"{CHECKPOINTS}/{step}/{name}" for name in names])
                self._here.discard(step)

    def _files(self) -> dict[str, Path]:
        """Returns the files of the run but its checkpoints, by name: not those that are still being written."""
        found = {}
        for path in self._folder.rglob("*"):
            parts = path.relative_to(self._folder).parts
            if parts[0] != CHECKPOINTS and not any(part.startswith(".") for part in parts) and path.is_file():
                found["/".join(parts)] = path
        return found

    def _follow(self, every: float) -> None:
        told = ""
        while not self._ended.wait(every):
            try:
                self.send()
                told = ""
                continue
            except (UserError, OSError) as error:
                if str(error) != told:
                    self._say(f"{error}; what is saved is in {self._folder}, and is sent once that is over")
                    told = str(error)
            if self._claim.lost:
                self._stop()
                return

    def _send_last(self) -> None:
        try:
            self.send()
        except (UserError, OSError) as error:
            raise UserError(
                f"{error}; what was not sent is in {self._folder}: run again on this machine to go on from there"
            ) from None


def empty(folder: Path) -> None:
    """Makes an empty folder, in place of whatever is there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns

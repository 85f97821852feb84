"""Work on the shards of a corpus by Apache Beam, on whatever runner the user has.

What a shard gives is written to a file of its own in a folder that all machines reach (any of Beam's file systems), and
read back where the pipeline was started, in the order of the shards. A file gets its name when it is whole, so that
shards that were done before an interruption are not done again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import logging
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from triarch.errors import UserError, nearest

# What a shard becomes: blocks of bytes. A shard is anything that can be pickled.
Work = Callable[[Any], Iterable[bytes]]

_LENGTH = struct.Struct("<Q")
_END = _LENGTH.pack(2**64 - 1)
_DONE, _FAILED = "blocks", "error"
_BITS = "duplicates.bits"


def pipeline_options(options: Sequence[str]) -> PipelineOptions:
    """Returns Beam's options of `options`, "name=value" or "name" each.

    Raises:
      UserError: Beam has no such option, or does not take its value.
    """
    known = _parsed([])
    flags = [f"--{option.removeprefix('--')}" for option in options]
    for option, flag in zip(options, flags, strict=True):
        name = flag.removeprefix("--").partition("=")[0]
        if not name:
            raise UserError(f"beam_option={option}: expected NAME=VALUE")
        # Some options have two names, of which only one is listed.
        if _parsed([flag]) == known and name not in known:
            raise UserError(f"beam_option={option}: Beam has no option {name!r}{nearest(name, known)}")
    return PipelineOptions(flags)


def _parsed(flags: list[str]) -> dict[str, Any]:
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            # What it warns of is asked about here.
            logging.disable(logging.WARNING)
            return PipelineOptions(flags).get_all_options()
    except SystemExit:  # What argparse ends a program with.
        reason = message.getvalue().strip().rpartition("error: ")[2]
        raise UserError(f"beam_option={flags[0].removeprefix('--')}: {reason}") from None
    finally:
        logging.disable(logging.NOTSET)


@dataclasses.dataclass(frozen=True)
class Beam:
    """Where and how pipelines run.

    Attributes:
      options: Beam's own, as `pipeline_options` takes them.
      folder: that all machines reach, a path or a URL; one that this machine alone reaches when None.
    """

    options: tuple[str, ...] = ()
    folder: str | None = None

    def __post_init__(self):
        pipeline_options(self.options)
        if self.folder is not None:
            with _explained():
                FileSystems.join(self.folder, "file")

    def folder_of(self, job: str, scratch: Path) -> str:
        """Returns where files of `job` go: below the folder that all machines reach, or in `scratch`."""
        if self.folder is None:
            return str(scratch.absolute() / "shards")
        return FileSystems.join(self.folder, f"triarch-{hashlib.sha256(job.encode()).hexdigest()[:16]}")

    def run(self, work: Work, shards: Sequence[Any], folder: str, name: str = "shard") -> list[Iterator[bytes]]:
        """Does `work` on all shards, then returns for each of them, in their order, the blocks that it gave.

        Args:
          work: makes blocks of a shard; the same ones each time. It is pickled.
          shards: what there is to do.
          folder: for the files.
          name: of the files: what lies in `folder` under it already is of the same work and shards.

        Raises:
          UserError: `work` raised one (that of the first shard that did), the pipeline failed, or its files cannot be
            read here.
        """
        with _explained():
            _make_folder(folder)
            prefix = FileSystems.join(folder, name)
            missing = [index for index in range(len(shards)) if not FileSystems.exists(_path(prefix, index, _DONE))]
            FileSystems.delete([path for path in _paths(prefix, missing, _FAILED) if FileSystems.exists(path)])
            if missing:
                with beam.Pipeline(options=pipeline_options(self.options)) as pipeline:
                    (
                        pipeline
                        | beam.Create([(index, shards[index]) for index in missing])
                        | beam.Reshuffle()
                        | beam.ParDo(_WorkOnShard(work, prefix))
                    )
            self._check(prefix, missing)
        return [_blocks(path) for path in _paths(prefix, range(len(shards)), _DONE)]

    def remove(self, job: str, scratch: Path) -> None:
        """Removes the files of `job` where nothing else does."""
        if self.folder is not None:
            with _explained():
                folder = self.folder_of(job, scratch)
                # Object stores (gs://) have no folders to remove, only what lies below a final slash.
                FileSystems.delete([FileSystems.join(folder, "")])
                if FileSystems.exists(folder):
                    FileSystems.delete([folder])

    def _check(self, prefix: str, indices: Iterable[int]) -> None:
        for index in indices:
            if FileSystems.exists(_path(prefix, index, _FAILED)):
                raise UserError(b"".join(_blocks(_path(prefix, index, _FAILED))).decode())
            if not FileSystems.exists(_path(prefix, index, _DONE)):
                folder = FileSystems.split(prefix)[0]
                raise UserError(f"{folder}: what the workers wrote is not here: give a folder that all machines reach")


class _WorkOnShard(beam.DoFn):
    def __init__(self, work: Work, prefix: str):
        self._work = work
        self._prefix = prefix

    def process(self, element: tuple[int, Any]) -> None:
        index, shard = element
        try:
            _write(_path(self._prefix, index, _DONE), self._work(shard))
        except UserError as error:
            # Tried again it would fail again, on all machines; and Beam would bury the line under its own.
            _write(_path(self._prefix, index, _FAILED), [str(error).encode()])


def write_bits(folder: str, bits: np.ndarray) -> None:
    """Writes uint8 `bits`, eight an entry, into a file that all machines find in `folder`, unless they are there.

    Raises:
      UserError: it cannot be written.
    """
    with _explained():
        _make_folder(folder)
        path = FileSystems.join(folder, _BITS)
        if not FileSystems.exists(path):
            with _written(path) as file:
                file.write(bits.tobytes())


def read_bits(folder: str, start: int, end: int) -> np.ndarray:
    """Returns the entries `start` to `end` of what `write_bits` wrote.

    Raises:
      UserError: they are not there.
    """
    path = FileSystems.join(folder, _BITS)
    with _explained(), FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.seek(start)
        bits = np.frombuffer(file.read(end - start), np.uint8)
    if len(bits) != end - start:
        raise UserError(f"{path}: is cut short: remove the folder and start again")
    return bits


def _make_folder(folder: str) -> None:
    if not FileSystems.exists(folder):
        FileSystems.mkdirs(folder)


def _paths(prefix: str, indices: Iterable[int], kind: str) -> list[str]:
    return [_path(prefix, index, kind) for index in indices]


def _path(prefix: str, index: int, kind: str) -> str:
    return f"{prefix}-{index:06d}.{kind}"


def _write(path: str, blocks: Iterable[bytes]) -> None:
    with _written(path) as file:
        for block in blocks:
            file.write(_LENGTH.pack(len(block)))
            file.write(block)
        file.write(_END)


@contextlib.contextmanager
def _written(path: str) -> Iterator[IO[bytes]]:
    """Opens a file that gets its name when it is whole."""
    # Beam may have two machines do the same; both write the same bytes.
    temporary = f"{path}.{uuid.uuid4().hex}"
    try:
        with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            yield file
    except BaseException:
        with contextlib.suppress(Exception):
            FileSystems.delete([temporary])
        raise
    FileSystems.rename([temporary], [path])


def _blocks(path: str) -> Iterator[bytes]:
    with _explained(), FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        while (length := file.read(_LENGTH.size)) != _END:
            size = _LENGTH.unpack(length)[0] if len(length) == _LENGTH.size else -1
            block = file.read(size) if size >= 0 else b""
            if len(block) != size:
                raise UserError(f"{path}: is cut short: remove it and start again")
            yield block


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turns what Beam and its file systems raise into one line."""
    try:
        yield
    except (UserError, GeneratorExit):
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"Beam: {type(error).__name__}: {lines[-1] if lines else 'no reason given'}") from error

"""TensorFlow and SeqIO imported without what they write to stderr of machines that have no GPU."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from triarch.errors import UserError


def import_seqio() -> None:
    """Imports SeqIO and starts TensorFlow, quietly, so that later imports of them say nothing.

    Raises:
      UserError: they are not installed.
    """
    with quiet_tensorflow():
        import absl.logging
        import seqio  # noqa: F401
        import tensorflow as tf

        absl.logging.set_verbosity(absl.logging.ERROR)
        tf.constant(0)


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps libraries from writing to stderr; turns a missing one into a UserError."""
    try:
        with _silent_libraries():
            yield
    except ModuleNotFoundError as error:
        raise UserError(f"tasks need {error.name}: pip install 'triarch[tasks]'") from None


@contextlib.contextmanager
def _silent_libraries() -> Iterator[None]:
    """Keeps TensorFlow, whose C++ reports on missing GPUs whatever its log level, from writing to stderr."""
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)

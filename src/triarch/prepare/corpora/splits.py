"""Which split a document belongs to: a function of its key alone, unless it is held out by name."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath

from triarch.errors import UserError
from triarch.prepare.corpora.documents import Document
from triarch.prepare.corpora.origins import place

TRAIN = "train"
VALIDATION = "validation"
TEST = "test"
DEFAULT_VALIDATION_FRACTION = 0.05


@dataclasses.dataclass(frozen=True)
class Splitting:
    """How documents are shared out.

    Attributes:
      validation_fraction: of the documents that are not held out by name; 0 or 1 makes one split of them.
      hold_out: patterns (*, ?, [...]) of documents that go to the split "test": of a file's path, its name or its name
        without suffixes, of a place in it, FILE:RECORD, of the document's own id, or of its task.
    """

    validation_fraction: float = DEFAULT_VALIDATION_FRACTION
    hold_out: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The splits that a store has.

        Raises:
          UserError: the fraction is not between 0 and 1.
        """
        return split_names(self.validation_fraction) + (TEST,) * bool(self.hold_out)

    def of(self, document: Document) -> str:
        """Returns the split of `document`."""
        if self.hold_out and any(self.matching(document)):
            return TEST
        return split_of(document.key, self.validation_fraction)

    def matching(self, document: Document) -> Iterator[str]:
        """Yields the patterns that hold `document` out."""
        path = PurePosixPath(document.origin[0])
        names = {document.origin[0], path.name, path.name.partition(".")[0], place(document.origin), document.id}
        names.add(document.task)
        for pattern in self.hold_out:
            if any(name and fnmatch.fnmatchcase(name, pattern) for name in names):
                yield pattern


def split_of(key: str, validation_fraction: float) -> str:
    """Returns "validation" for about `validation_fraction` of all keys, "train" for the others.

    The same key is in the same split on every machine, and stays in "validation" when the fraction grows.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return VALIDATION if int.from_bytes(digest, "big") < validation_fraction * 2**64 else TRAIN


def split_names(validation_fraction: float) -> tuple[str, ...]:
    """Returns the splits that a store with this fraction has.

    Raises:
      UserError: the fraction is not between 0 and 1.
    """
    if not 0 <= validation_fraction <= 1:
        raise UserError(f"validation_fraction={validation_fraction}: expected a number from 0 to 1")
    if validation_fraction == 0:
        return (TRAIN,)
    return (VALIDATION,) if validation_fraction == 1 else (TRAIN, VALIDATION)

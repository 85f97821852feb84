"""Documents and the corpora they come from. Plain Python: reading text needs no TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

from triarch.errors import UserError
from triarch.prepare.corpora.origins import Origin, named

_NOWHERE = named("")


@dataclasses.dataclass(frozen=True)
class Document:
    """One document.

    Attributes:
      text: its text, never empty, encodable as UTF-8. Of an example with inputs, the targets.
      key: what decides its split; documents of equal keys are in the same one. The text itself for most corpora.
      progress: units of the corpus' `size` read since the record before.
      inputs: what the text answers; None for plain text.
      origin: where it comes from.
      id: what the record calls itself; None where that was not asked for or it has no name.
      task: of an example to tune on, the task that it is of; None where nobody says.
      rendered: whether a chat template made inputs and text: names of special tokens in them are these tokens, and no
        ends are put behind them.
    """

    text: str
    key: str
    progress: int
    inputs: str | None = None
    origin: Origin = _NOWHERE
    id: str | None = None
    task: str | None = None
    rendered: bool = False

    @property
    def whole(self) -> str:
        """The text as it is read: inputs and targets joined by a line end."""
        if self.inputs is None or self.rendered:
            return f"{self.inputs or ''}{self.text}"
        return f"{self.inputs}\n{self.text}"


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A record that makes no document.

    Attributes:
      reason: in a word or two, for counting: "empty", "not JSON", ...
      place: file and line.
      progress: as of `Document`.
    """

    reason: str
    place: str
    progress: int


class BadRecordError(UserError):
    """A record that cannot be read: `reason` and `place` as of `LeftOut`, and a line that says what is wrong."""

    def __init__(self, reason: str, place: str, message: str):
        super().__init__(f"{place}: {message}")
        self.reason = reason
        self.place = place


EMPTY = "empty"


class Corpus(Protocol):
    """Text that can be read from the start any number of times, always in the same order."""

    def documents(self) -> Iterator[Document | LeftOut]:
        """Yields the documents, and what was left out: empty records, and bad ones where the user asked for that.

        Raises:
          UserError: something cannot be read, with file and line.
        """
        ...

    @property
    def size(self) -> int:
        """What the `progress` of all adds up to, about; for showing how far reading is."""
        ...

    @property
    def version(self) -> str:
        """What changes when the documents may have; asking is cheap."""
        ...

    def provenance(self) -> dict[str, Any]:
        """Returns where the text comes from, as JSON: the same text gives the same answer."""
        ...


def has_inputs(corpus: Corpus) -> bool:
    """Returns whether the documents of `corpus` are examples of inputs and targets."""
    return getattr(corpus, "inputs_field", None) is not None


def shards_of(corpus: Corpus) -> list[Corpus]:
    """Returns corpora that make up `corpus`, in order: its files where it has any."""
    return corpus.shards() if hasattr(corpus, "shards") else [corpus]

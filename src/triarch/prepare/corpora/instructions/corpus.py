"""Files of rows to tune on, as a corpus of inputs and targets."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2

from triarch.errors import UserError
from triarch.prepare.corpora.documents import BadRecordError, Document, LeftOut
from triarch.prepare.corpora.files import storage
from triarch.prepare.corpora.files.objects import rows_of
from triarch.prepare.corpora.files.records import checked_string
from triarch.prepare.corpora.instructions.rows import Example, Row, RowLabels, examples_of, labels_of
from triarch.prepare.corpora.origins import Origin, place
from triarch.tokenizers.chat import ChatTemplate, TemplateError, compiled, rendered, sandbox

UNNAMED = "unnamed"
_INVERTED = re.compile(r"(_ii|-ii|_inverted)$", re.IGNORECASE)
OVER_CAP = "beyond the cap of its task"


@dataclasses.dataclass(frozen=True)
class RowTemplates:
    """Jinja templates that make inputs and targets of a row's fields, in place of what the row calls so.

    Attributes:
      inputs: "{{question}} {{choices | join(', ')}}" for example.
      targets: likewise.
    """

    inputs: str
    targets: str

    @functools.cached_property
    def _templates(self) -> tuple[jinja2.Template, jinja2.Template]:
        environment = sandbox()
        environment.undefined = jinja2.StrictUndefined
        named = (("--inputs_template", self.inputs), ("--targets_template", self.targets))
        one, other = (compiled(source, flag, environment) for flag, source in named)
        return one, other

    def check(self) -> None:
        """Raises UserError unless both are Jinja."""
        _ = self._templates

    def example(self, row: Row, where: str) -> Example:
        """Returns the example of a row.

        Raises:
          BadRecordError: a template fails on it, or makes no targets.
        """
        made = []
        for name, template in zip(("inputs", "targets"), self._templates, strict=True):
            try:
                made.append(checked_string(rendered(template, row), name, where))
            except TemplateError as error:
                raise BadRecordError("template failed", where, f"--{name}_template fails on it: {error}") from None
        if not made[1].strip():
            raise BadRecordError("no targets", where, "--targets_template makes nothing of it")
        return Example(made[0], made[1])


@dataclasses.dataclass(frozen=True)
class Instructions:
    """Examples from JSON lines, Parquet or Arrow files of rows to tune on.

    Attributes:
      paths: the files, in order.
      template: in which messages are written; None where there is none.
      templates: that make inputs and targets of each row; None: the row has them.
      sources: of which rows are read, those that say theirs, in lower case; None for all.
      style: kind of prompt whose rows are read, of those that say theirs; None for all.
      cap: the most rows of one task that are read, evenly from all of its rows; None for no limit.
      inverted_share: of an inverted task (its name ends in "_ii") this share of its rows is read.
      skip_bad_records: leave out what cannot be read, where it is an error otherwise.
      id_field: field that names a row; None where names are not asked for.
    """

    paths: tuple[str, ...]
    template: ChatTemplate | None = None
    templates: RowTemplates | None = None
    sources: tuple[str, ...] | None = None
    style: str | None = None
    cap: int | None = None
    inverted_share: float = 1.0
    skip_bad_records: bool = False
    id_field: str | None = None

    # As `documents.has_inputs` asks.
    inputs_field = "inputs"

    def __post_init__(self):
        for path in self.paths:
            storage.check_file(path)
            if path.removesuffix(".gz").removesuffix(".zst").endswith(".txt"):
                raise UserError(
                    f"{path}: text has no rows of inputs and targets: expected JSON lines, Parquet or Arrow"
                )
        if self.cap is not None and self.cap < 1:
            raise UserError(f"--task_cap={self.cap}: expected at least 1")
        if self.templates is not None:
            self.templates.check()
        if self.template is not None:
            self.template.check()

    def documents(self) -> Iterator[Document | LeftOut]:
        """Yields the examples of all files, and what was left out.

        Raises:
          UserError: a file cannot be read; a row has no targets, or cannot be made an example of; names file and line.
        """
        seen: collections.Counter[str] = collections.Counter()
        for origin, row, progress in self._rows():
            if isinstance(row, BadRecordError):
                yield self._left_out(row, progress)
                continue
            labels = labels_of(row)
            if not self._wanted(labels):
                continue
            task = labels.task or UNNAMED
            if self._limited and not self._kept(task, seen):
                yield LeftOut(OVER_CAP, "", progress)
                continue
            try:
                examples = list(self._examples(row, place(origin)))
            except BadRecordError as error:
                yield self._left_out(error, progress)
                continue
            yield from self._of_row(examples, row, origin, task, progress)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(storage.size, self.paths))

    @property
    def version(self) -> str:
        """Sizes and times of change of the files, and how examples are made of their rows."""
        options = dataclasses.replace(self, skip_bad_records=False)
        return hashlib.sha256(repr((options, [storage.version(path) for path in self.paths])).encode()).hexdigest()

    def provenance(self) -> dict[str, Any]:
        """Returns each file's name, size and sha256, and how examples were made of their rows."""
        names = ("sources", "style", "cap", "inverted_share")
        options = {name: getattr(self, name) for name in names if getattr(self, name) not in (None, 1.0)}
        if self.templates is not None:
            options |= {"templates": dataclasses.asdict(self.templates)}
        if self.template is not None:
            options |= {"chat_template_sha256": hashlib.sha256(self.template.source.encode()).hexdigest()}
        return {"files": [storage.provenance(path) for path in self.paths], **options}

    @functools.cached_property
    def task_rows(self) -> Mapping[str, int]:
        """How many rows there are of each task, from reading all files once."""
        counts: collections.Counter[str] = collections.Counter()
        for _, row, _ in self._rows():
            if not isinstance(row, BadRecordError) and self._wanted(labels := labels_of(row)):
                counts[labels.task or UNNAMED] += 1
        return counts

    def _rows(self) -> Iterator[tuple[Origin, Row | BadRecordError, int]]:
        for path in self.paths:
            yield from rows_of(path)

    def _left_out(self, error: BadRecordError, progress: int) -> LeftOut:
        if not self.skip_bad_records:
            raise error
        return LeftOut(error.reason, error.place, progress)

    def _wanted(self, labels: RowLabels) -> bool:
        if self.sources is not None and labels.source is not None and labels.source.lower() not in self.sources:
            return False
        return self.style is None or labels.style is None or labels.style == self.style

    @property
    def _limited(self) -> bool:
        return self.cap is not None or self.inverted_share < 1

    def _kept(self, task: str, seen: collections.Counter[str]) -> bool:
        """Returns whether the next row of a task is one of those that its limit leaves, which lie evenly among all."""
        total = self.task_rows[task]
        limit = total if self.cap is None else min(total, self.cap)
        if _INVERTED.search(task):
            limit = max(1, round(limit * self.inverted_share))
        number = seen[task]
        seen[task] += 1
        return (number + 1) * limit // total > number * limit // total

    def _examples(self, row: Row, where: str) -> Iterator[Example]:
        if self.templates is not None:
            yield self.templates.example(row, where)
            return
        yield from examples_of(row, where, self.template)

    def _of_row(
        self, examples: list[Example], row: Row, origin: Origin, task: str, progress: int
    ) -> Iterator[Document]:
        own_id = None if self.id_field is None else row.get(self.id_field)
        # All of a conversation are of one split.
        last = examples[-1]
        key = f"{last.inputs}\n{last.targets}"
        for number, example in enumerate(examples):
            yield Document(
                text=example.targets,
                key=key,
                progress=0 if number else progress,
                inputs=example.inputs,
                origin=origin,
                id=str(own_id) if isinstance(own_id, str | int) else None,
                task=task,
                rendered=example.rendered,
            )

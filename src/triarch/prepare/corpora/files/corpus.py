"""Files as a corpus."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

from triarch.errors import UserError, nearest
from triarch.prepare.corpora.documents import EMPTY, BadRecordError, Document, LeftOut
from triarch.prepare.corpora.files import storage
from triarch.prepare.corpora.files.records import Fields, Records, TextRecord, json_records, text_records
from triarch.prepare.corpora.files.tables import table_records
from triarch.prepare.corpora.origins import place

UNITS = ("file", "line", "paragraph")


@dataclasses.dataclass(frozen=True)
class Files:
    """Documents from files of text, JSON lines, Parquet or Arrow.

    Attributes:
      paths: the files, in order; their names end in one of `storage.SUFFIXES`. Local paths, or URLs that fsspec knows.
      text_field: the field or column that holds the document, or an example's targets.
      inputs_field: the field or column that holds an example's inputs; None for plain documents.
      unit: what a document of a `.txt` file is: the whole "file", each "line", or each "paragraph" (lines between
        blank lines).
      skip_bad_records: leave out what cannot be read, where it is an error otherwise. Of a file that is cut short, what
        comes before the cut is kept.
      id_field: the field or column that names a document; None where no names are asked for.
    """

    paths: tuple[str, ...]
    text_field: str = "text"
    unit: str = "file"
    inputs_field: str | None = None
    skip_bad_records: bool = False
    id_field: str | None = None

    def __post_init__(self):
        if self.unit not in UNITS:
            raise UserError(f"documents={self.unit!r}: unknown unit{nearest(self.unit, UNITS)}")
        for path in self.paths:
            storage.check_file(path)

    @classmethod
    def matching(cls, patterns: Iterable[str], **options: Any) -> Files:
        """Returns the files that `patterns` mean, see `storage.matching`: each pattern's sorted, none twice.

        Raises:
          UserError: a pattern matches nothing, or a file is not of a known kind.
        """
        paths = dict.fromkeys(path for pattern in patterns for path in storage.matching(pattern))
        return cls(tuple(paths), **options)

    def documents(self) -> Iterator[Document | LeftOut]:
        """Yields the documents of all files, and what was left out.

        Raises:
          UserError: a file cannot be read, is cut short, is not UTF-8, or a line lacks the text; names file and line.
        """
        for path in self.paths:
            yield from self._file_documents(path)

    def shards(self) -> list[Files]:
        """Returns the files one by one."""
        return [dataclasses.replace(self, paths=(path,)) for path in self.paths]

    @property
    def size(self) -> int:
        """Bytes of all files, as they lie there."""
        return sum(map(storage.size, self.paths))

    @property
    def version(self) -> str:
        """Sizes and times of change of the files, and how documents are made of them; not whether bad ones may be."""
        options = dataclasses.replace(self, skip_bad_records=False)
        return hashlib.sha256(repr((options, [storage.version(path) for path in self.paths])).encode()).hexdigest()

    def provenance(self) -> dict[str, Any]:
        """Returns each file's name, size and sha256 (local ones), and how documents were made of them."""
        found = {
            "files": [storage.provenance(path) for path in self.paths],
            "text_field": self.text_field,
            "unit": self.unit,
        }
        return found if self.inputs_field is None else {**found, "inputs_field": self.inputs_field}

    def _file_documents(self, path: str) -> Iterator[Document | LeftOut]:
        before = 0
        with storage.opened(path) as raw:
            for record in self._records(path, raw):
                # Where the file as it lies there is read to, decompressed or not.
                position = raw.tell()
                progress, before = position - before, position
                if isinstance(record, BadRecordError):
                    if not self.skip_bad_records:
                        raise record
                    yield LeftOut(record.reason, record.place, progress)
                elif not record.text:
                    yield LeftOut(EMPTY, place(record.origin), progress)
                else:
                    yield _document(record, progress)
                # One of 100 MB need not stay while the next one is read.
                del record

    def _records(self, path: str, raw: IO[bytes]) -> Records:
        fields = Fields(self.text_field, self.inputs_field, self.id_field)
        plain = path.removesuffix(".gz").removesuffix(".zst")
        try:
            if plain.endswith(storage.TABLE_FORMATS):
                yield from table_records(path, raw, fields)
            elif plain.endswith(".txt"):
                yield from text_records(path, raw, self.unit)
            else:
                yield from json_records(path, raw, fields)
        except BadRecordError as error:
            yield error


def _document(record: TextRecord, progress: int) -> Document:
    document = Document(record.text, record.text, progress, record.inputs, record.origin, record.id)
    return document if record.inputs is None else dataclasses.replace(document, key=document.whole)

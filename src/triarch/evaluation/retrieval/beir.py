"""Folders in BEIR's layout: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv, the first two also as .gz or .zst."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from triarch.errors import UserError, nearest
from triarch.files import check_regular
from triarch.prepare.corpora.documents import BadRecordError
from triarch.prepare.corpora.files.rows import Row, rows

_PACKED = ("", ".gz", ".zst")
_QRELS = ("query-id", "corpus-id", "score")


@dataclasses.dataclass(frozen=True)
class Collection:
    """Passages, queries, and which of the passages are relevant to each query.

    Attributes:
      name: of the folder.
      split: of the judgements.
      document_ids: of the passages.
      documents: their texts: title and text with a space between.
      query_ids: of the queries that there are judgements for.
      queries: their texts.
      judgements: by query id: the grade of each judged passage, by its id; 0 for those that are not relevant.
    """

    name: str
    split: str
    document_ids: Sequence[str]
    documents: Sequence[str]
    query_ids: Sequence[str]
    queries: Sequence[str]
    judgements: Mapping[str, Mapping[str, int]]


def read_collection(folder: Path, split: str = "test") -> Collection:
    """Reads a folder in BEIR's layout.

    Raises:
      UserError: a file is missing or damaged, an id is there twice, the judgements name a query or passage that is not
        there, or a query has no relevant passage; names the file and line.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    qrels = _qrels_file(folder, split)
    documents = dict(_texts(folder, "corpus"))
    queries = dict(_texts(folder, "queries"))
    judgements = _judgements(qrels, documents, queries)
    for query, grades in judgements.items():
        if not any(grade > 0 for grade in grades.values()):
            raise UserError(f"{qrels}: query {query!r} has no relevant passage: leave it out")
    chosen = [query for query in queries if query in judgements]
    return Collection(
        folder.absolute().name,
        split,
        list(documents),
        list(documents.values()),
        chosen,
        [queries[query] for query in chosen],
        judgements,
    )


def _qrels_file(folder: Path, split: str) -> Path:
    path = folder / "qrels" / f"{split}.tsv"
    splits = sorted(found.stem for found in (folder / "qrels").glob("*.tsv"))
    if not splits:
        raise UserError(f"{folder}: holds no judgements: expected qrels/{split}.tsv")
    if split not in splits:
        raise UserError(
            f"{folder / 'qrels'}: no split {split!r}{nearest(split, splits)}: there are {', '.join(splits)}"
        )
    check_regular(path, folder)
    return path


def _texts(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yields id and text of each line of a file."""
    path = next((path for end in _PACKED if (path := folder / f"{name}.jsonl{end}").exists()), None)
    if path is None:
        raise UserError(f"{folder}: holds no {name}.jsonl (nor {name}.jsonl.gz)")
    check_regular(path, folder)
    seen = set()
    for row in _rows(path, ("_id", "text")):
        title, text = row.values.get("title") or "", row.values["text"]
        if not isinstance(title, str) or not isinstance(text, str):
            raise UserError(f"{row.place}: title and text are expected to be strings")
        own_id = _id(row, "_id")
        if own_id in seen:
            raise UserError(f"{row.place}: the id {own_id!r} is there twice")
        seen.add(own_id)
        whole = f"{title} {text}".strip()
        if name == "queries" and not whole:
            raise UserError(f"{row.place}: query {own_id!r} is empty")
        yield own_id, whole
    if not seen:
        raise UserError(f"{path}: is empty")


def _judgements(path: Path, documents: Mapping[str, str], queries: Mapping[str, str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for row in _rows(path, _QRELS):
        query, document = _id(row, "query-id"), _id(row, "corpus-id")
        for own_id, known, kind in ((query, queries, "queries"), (document, documents, "the corpus")):
            if own_id not in known:
                raise UserError(f"{row.place}: the id {own_id!r} is not in {kind}")
        grade = row.values["score"]
        if not isinstance(grade, str) or not grade.strip().removeprefix("-").isdecimal():
            raise UserError(f"{row.place}: score = {grade!r}: expected a whole number")
        own = found.setdefault(query, {})
        if document in own:
            raise UserError(f"{row.place}: query {query!r} and passage {document!r} are judged twice")
        own[document] = int(grade)
    if not found:
        raise UserError(f"{path}: holds no judgement")
    return found


def _rows(path: Path, names: Sequence[str]) -> Iterator[Row]:
    for row in rows(str(path), names):
        if isinstance(row, BadRecordError):
            raise row
        yield row


def _id(row: Row, name: str) -> str:
    value = row.values[name]
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UserError(f"{row.place}: {name} = {value!r}: expected an id")
    return str(value)

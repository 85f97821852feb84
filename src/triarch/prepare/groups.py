"""Queries with their passages and hard negatives to a token store of the layout "groups"."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triarch.data.manifest import GROUPS, MARGINS, VOCABULARY, Split, StoreLabels, StoreManifest
from triarch.data.partial import full_disk_explained
from triarch.data.store import TokenStore
from triarch.data.writer import StoreWriter, check_output
from triarch.errors import UserError
from triarch.prepare.corpora.documents import BadRecordError
from triarch.prepare.corpora.files import storage
from triarch.prepare.corpora.files.records import checked_string
from triarch.prepare.corpora.files.rows import Row, rows
from triarch.prepare.corpora.origins import Origins
from triarch.prepare.corpora.splits import split_names, split_of
from triarch.prepare.counts import LeftOutCounts
from triarch.prepare.layouts import check_window
from triarch.prepare.pipeline import UINT16_IDS
from triarch.prepare.vocabulary_choice import VocabularyChoice
from triarch.progress import Progress
from triarch.tokenizers import Tokenizer

_BATCH = 1000


@dataclasses.dataclass(frozen=True)
class GroupFiles:
    """Files whose rows are a query, a passage that answers it, and hard negatives, passages that do not.

    Attributes:
      paths: TSV, CSV, JSON lines, Parquet or Arrow; local paths, or URLs that fsspec knows.
      query_field: the field or column of the query.
      passage_field: of the passage.
      negative_fields: of a hard negative each; a field that holds a list counts as its first texts, see
        `negatives_in_list`.
      negatives_in_list: how many texts of a list are taken, where `negative_fields` names one field that holds a list;
        None where fields hold texts.
      query_prompt: put before each query.
      passage_prompt: put before each passage and hard negative.
      skip_bad_records: leave out rows that cannot be read or lack a text, and count them.
      score_fields: of a teacher's scores of the passage and of each hard negative; of one name, the field holds a list
        of them, or of how much higher than each negative the passage is scored (of a single negative, that number); ()
        for none.
    """

    paths: tuple[str, ...]
    query_field: str = "query"
    passage_field: str = "passage"
    negative_fields: tuple[str, ...] = ()
    negatives_in_list: int | None = None
    query_prompt: str = ""
    passage_prompt: str = ""
    skip_bad_records: bool = False
    score_fields: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises UserError for scores that do not go with the hard negatives."""
        given, wanted = ",".join(self.score_fields), 1 + self.num_negatives
        if self.score_fields and not self.num_negatives:
            raise UserError(f"--score_fields={given}: scores are compared with those of hard negatives: name them with "
                            "--negative_fields")  # fmt: skip
        if len(self.score_fields) not in (0, 1, wanted):
            raise UserError(
                f"--score_fields={given}: expected {wanted} fields, of the passage and of {self.num_negatives} hard "
                "negatives, or one that holds a list"
            )

    def margins(self, row: Row) -> list[float] | None:
        """Returns how much higher than each hard negative a teacher scores the passage; None where there is no teacher.

        Raises:
          BadRecordError: a score is missing or no number, or there are too few or too many.
        """
        if not self.score_fields:
            return None
        found = [row.values[name] for name in self.score_fields]
        told = ", ".join(self.score_fields)
        if len(found) == 1:
            found = list(found[0]) if isinstance(found[0], list | tuple) else found
        if len(found) not in (self.num_negatives, 1 + self.num_negatives):
            raise BadRecordError(
                "no scores", row.place, f"field {told!r} holds {len(found)} scores, expected {1 + self.num_negatives} "
                f"or, of differences, {self.num_negatives}"
            )  # fmt: skip
        numbers = [_score(row, told, value) for value in found]
        return numbers if len(numbers) == self.num_negatives else [numbers[0] - other for other in numbers[1:]]

    @property
    def num_negatives(self) -> int:
        """Hard negatives of each query."""
        return len(self.negative_fields) if self.negatives_in_list is None else self.negatives_in_list

    def texts(self, row: Row) -> list[str]:
        """Returns the texts of a row, with their prompts: query, passage, hard negatives.

        Raises:
          BadRecordError: one is missing, empty or no string, or a hard negative is the passage itself.
        """
        query = _text(row, self.query_field, row.values[self.query_field])
        passage = _text(row, self.passage_field, row.values[self.passage_field])
        negatives = self._negatives(row)
        for text in negatives:
            if text == passage:
                raise BadRecordError("negative is passage", row.place, "a hard negative is the passage itself")
        return [self.query_prompt + query, *(self.passage_prompt + text for text in (passage, *negatives))]

    def _negatives(self, row: Row) -> list[str]:
        if self.negatives_in_list is None:
            return [_text(row, name, row.values[name]) for name in self.negative_fields]
        (name,) = self.negative_fields
        found = row.values[name]
        if not isinstance(found, list | tuple) or len(found) < self.negatives_in_list:
            have = f"{len(found)}" if isinstance(found, list | tuple) else "no list"
            told = f"field {name!r} holds {have}, expected a list of at least {self.negatives_in_list} texts"
            raise BadRecordError("too few negatives", row.place, told)
        return [_text(row, name, text) for text in found[: self.negatives_in_list]]


def _score(row: Row, name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BadRecordError("no scores", row.place, f"field {name!r} is {str(value)[:40]!r}, expected a number")
    return number


def _text(row: Row, name: str, text: Any) -> str:
    if not checked_string(text, name, row.place).strip():
        raise BadRecordError("empty", row.place, f"field {name!r} is empty: expected a text")
    return text


def prepare_groups(
    files: GroupFiles,
    task: str,
    output: Path,
    vocabulary: VocabularyChoice,
    query_length: int,
    passage_length: int,
    validation_fraction: float,
    overwrite: bool = False,
    show_progress: bool = False,
) -> TokenStore:
    """Writes queries, passages and hard negatives as a token store: an example a row.

    Args:
      files: that hold the rows.
      task: name to record.
      output: folder of the store; nothing is there until all is written.
      vocabulary: which one; it must be there.
      query_length: tokens that a query is cut to.
      passage_length: tokens that each passage is cut to.
      validation_fraction: of the rows, by their query: none is in both splits.
      overwrite: replace a store that is at `output`.
      show_progress: draw a progress bar on stderr if it is a terminal.

    Raises:
      UserError: a row is bad (unless such are skipped), a split has no row, there is no vocabulary, an existing output,
        a full disk.
    """
    files.check()
    window = query_length + (1 + files.num_negatives) * passage_length
    for name, value in (("max_query", query_length), ("max_passage", passage_length)):
        if value < 1:
            raise UserError(f"--{name}={value}: expected at least 1")
    check_window(window)
    tokenizer = vocabulary.required(f"--task={GROUPS}")
    check_output(output, overwrite)
    dtype = "uint16" if tokenizer.info.size <= UINT16_IDS else "int32"
    names = split_names(validation_fraction)
    has_scores = bool(files.score_fields)
    with (
        Progress(show_progress) as progress,
        StoreWriter(
            output, window, dtype, overwrite, segments=True, label_bytes=4 * files.num_negatives * has_scores
        ) as writer,
        full_disk_explained(output),
    ):
        progress.start("tokenizing", None)
        counts = {name: _Counts() for name in names}
        left_out = LeftOutCounts()
        lengths = [query_length, *[passage_length] * (1 + files.num_negatives)]
        for batch in _batches(files, left_out):
            for name in names:
                own = [one for one in batch if split_of(_key(one.texts[0]), validation_fraction) == name]
                if own:
                    counts[name].write(writer, name, own, tokenizer, lengths)
            progress.advance(len(batch))
        for name, found in counts.items():
            if not found.examples:
                told = left_out.told()
                raise UserError(f"split {name!r} has no row{told}: give more, or another --validation_fraction")
        settings = dataclasses.asdict(files) | {"query_length": query_length, "passage_length": passage_length}
        del settings["paths"], settings["skip_bad_records"]
        if not has_scores:
            del settings["score_fields"]
        manifest = StoreManifest(
            task=task,
            layout=GROUPS,
            window=window,
            dtype=dtype,
            vocabulary=tokenizer.info,
            splits={name: found.split(writer, name) for name, found in counts.items()},
            source={
                "files": [storage.provenance(path) for path in files.paths],
                GROUPS: settings | {"num_negatives": files.num_negatives},
                "validation_fraction": validation_fraction,
                "left_out": left_out.to_json(),
            },
            provenance={name: writer.finish_provenance(name) for name in counts},
            labels=StoreLabels(MARGINS, count=files.num_negatives) if has_scores else None,
        )
        folder = writer.folder / VOCABULARY
        folder.mkdir(exist_ok=True)
        tokenizer.save(folder)
        writer.finish(manifest, tokenizer.token_bytes)
    return TokenStore.open(output)


@dataclasses.dataclass(frozen=True)
class _Group:
    """A row, its texts with their prompts, and a teacher's margins where there are any."""

    row: Row
    texts: list[str]
    margins: list[float] | None


@dataclasses.dataclass
class _Counts:
    """What was written of a split."""

    examples: int = 0
    tokens: int = 0
    bytes: int = 0

    def write(
        self,
        writer: StoreWriter,
        split: str,
        batch: Sequence[_Group],
        tokenizer: Tokenizer,
        lengths: Sequence[int],
    ) -> None:
        """Writes rows as examples, each text cut to its length."""
        window = sum(lengths)
        tokens = np.full((len(batch), window), tokenizer.info.special["pad"], np.int32)
        segments = np.zeros((len(batch), window), np.int32)
        totals = np.zeros(len(batch), np.int64)
        for number, group in enumerate(batch):
            place, row = 0, group.row
            for segment, (text, most) in enumerate(zip(group.texts, lengths, strict=True), 1):
                ids = tokenizer.encode(text)[:most]
                if not len(ids):
                    raise UserError(f"{row.place}: a text has no tokens in this vocabulary: {text[:40]!r}")
                tokens[number, place : place + len(ids)] = ids
                segments[number, place : place + len(ids)] = segment
                place += len(ids)
                self.bytes += len(text.encode())
            totals[number] = place
        margins = [one.margins for one in batch if one.margins is not None]
        writer.write(split, tokens, segments, np.array(margins, np.float32) if margins else None)
        origins = Origins.of([one.row.origin for one in batch], totals[:, None])
        starts = self.tokens + np.cumsum(totals) - totals
        writer.write_documents(split, np.column_stack([origins.rows, starts]), origins.sources)
        self.tokens += int(totals.sum())
        self.examples += len(batch)

    def split(self, writer: StoreWriter, name: str) -> Split:
        """Returns the counts as a manifest has them."""
        return Split(self.examples, self.examples, self.tokens, 0, self.bytes, writer.finish_files(name))


def _batches(files: GroupFiles, left_out: LeftOutCounts) -> Iterator[list[_Group]]:
    batch = []
    names = [files.query_field, files.passage_field, *files.negative_fields, *files.score_fields]
    for path in files.paths:
        for row in rows(path, names):
            try:
                if isinstance(row, BadRecordError):
                    raise row
                batch.append(_Group(row, files.texts(row), files.margins(row)))
            except BadRecordError as error:
                if not files.skip_bad_records:
                    raise
                left_out.add(error)
            if len(batch) == _BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _key(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()

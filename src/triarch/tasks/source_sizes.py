"""How many examples a SeqIO source has, so that a progress bar can say what is left."""

from __future__ import annotations

from pathlib import Path

import seqio

_BLOCK = 2**20
# Of a TFRecord: its length and a checksum before it, another one after it.
_HEADER, _FOOTER = 12, 4


def num_examples(source: seqio.DataSource, split: str) -> int | None:
    """Returns how many examples a split has; None where the source does not say and there are no local files to count.

    Lines and TFRecords are counted without being read as such: in a small part of the time that reading them takes.
    """
    told = source.num_input_examples(split)
    if told is not None or not isinstance(source, seqio.TextLineDataSource | seqio.TFExampleDataSource):
        return told
    files = [Path(file) for file in source.list_shards(split)]
    if not all(file.is_file() for file in files):
        return None
    count = _lines if isinstance(source, seqio.TextLineDataSource) else _records
    return sum(map(count, files))


def _lines(file: Path) -> int:
    lines, last = 0, b"\n"
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            lines, last = lines + block.count(b"\n"), block[-1:]
    return lines + (last != b"\n")


def _records(file: Path) -> int:
    """Returns how many TFRecords a file holds; of one that is something else a number that says nothing."""
    records, place, end = 0, 0, file.stat().st_size
    with file.open("rb") as opened:
        while place < end:
            opened.seek(place)
            place += _HEADER + int.from_bytes(opened.read(8), "little") + _FOOTER
            records += 1
    return records

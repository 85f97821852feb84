"""A corpus read shard by shard on other machines: its duplicates found, its documents tokenized."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from triarch.errors import UserError
from triarch.prepare.beam import Beam, read_bits, write_bits
from triarch.prepare.chunk_blocks import from_block, to_block
from triarch.prepare.corpora.documents import Corpus, shards_of
from triarch.prepare.corpora.duplicates import Duplicates, digests, find_duplicates
from triarch.prepare.corpora.selection import Filters, selected
from triarch.prepare.tokenization import ChunkTokenizer, TokenizedChunk, tokenize


@dataclasses.dataclass(frozen=True)
class DigestShard:
    """What a machine does with a shard to find duplicates: the digests of documents that have the right length."""

    filters: Filters

    def __call__(self, shard: Corpus) -> Iterator[bytes]:
        return digests(shard, self.filters, lambda progress: None)


@dataclasses.dataclass(frozen=True)
class ShardRange:
    """A shard, and which of all documents that have the right length are its own: `first` to `end`."""

    corpus: Corpus
    first: int = 0
    end: int = 0


@dataclasses.dataclass(frozen=True)
class TokenizeShard:
    """What a machine does with a shard.

    Attributes:
      filters: which documents are kept.
      work: tokenizes them.
      duplicates: the folder of `write_bits`; None where duplicates are kept.
    """

    filters: Filters
    work: ChunkTokenizer
    duplicates: str | None

    def __call__(self, shard: ShardRange) -> Iterator[bytes]:
        bits = None
        if self.duplicates is not None:
            bits = read_bits(self.duplicates, shard.first >> 3, -(-shard.end // 8))
        records = selected(shard.corpus, self.filters, bits, shard.first & 7)
        return map(to_block, tokenize(records, self.work, workers=1))


def find_shards_duplicates(corpus: Corpus, filters: Filters, beam: Beam, folder: str, scratch: Path) -> Duplicates:
    """Finds duplicates by `beam`: those that `find_duplicates` finds in the corpus where it is one shard.

    Args:
      corpus: see `tokenize_shards`.
      filters: which documents have the right length.
      beam: where the text is read; the digests are compared on this machine.
      folder: that all machines reach, for what they hand over.
      scratch: on this machine.

    Raises:
      UserError: as `tokenize_shards`.
    """
    return find_duplicates(beam.run(DigestShard(filters), shards_of(corpus), folder, "digests"), scratch)


def tokenize_shards(
    corpus: Corpus,
    filters: Filters,
    work: ChunkTokenizer,
    beam: Beam,
    folder: str,
    duplicates: Duplicates | None = None,
) -> Iterator[TokenizedChunk]:
    """Tokenizes `corpus` by `beam`, then yields what `tokenize` would: the records in order, in other chunks.

    Args:
      corpus: its shards are the files of a corpus of files; any other corpus is one shard.
      filters: which documents are kept.
      work: tokenizes them.
      beam: where.
      folder: that all machines reach, for what they hand over.
      duplicates: what `find_shards_duplicates` returned; None where duplicates are kept.

    Raises:
      UserError: bad text (the corpus's first), a damaged file in `folder`, or see `Beam.run`.
    """
    shards = _ranges(shards_of(corpus), duplicates)
    if duplicates is not None:
        write_bits(folder, duplicates.bits)
    tokenize_shard = TokenizeShard(filters, work, None if duplicates is None else folder)
    blocks = beam.run(tokenize_shard, shards, folder, "tokens")
    return (_chunk(block, folder) for block in itertools.chain.from_iterable(blocks))


def _ranges(shards: Sequence[Corpus], duplicates: Duplicates | None) -> list[ShardRange]:
    if duplicates is None:
        return [ShardRange(shard) for shard in shards]
    ends = np.cumsum(duplicates.counts).tolist()
    return [ShardRange(*fields) for fields in zip(shards, [0, *ends[:-1]], ends, strict=True)]


def _chunk(block: bytes, folder: str) -> TokenizedChunk:
    try:
        return from_block(block)
    except ValueError as error:
        raise UserError(f"{folder}: {error}: remove the folder and start again") from None

"""A corpus tokenized shard by shard on other machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from triarch.errors import UserError
from triarch.tasks.beam import Beam
from triarch.tasks.chunk_blocks import from_block, to_block
from triarch.tasks.documents import Corpus, shards_of
from triarch.tasks.selection import Filters, selected
from triarch.tasks.tokenization import ChunkTokenizer, TokenizedChunk, tokenize


@dataclasses.dataclass(frozen=True)
class TokenizeShard:
    """What a machine does with a shard.

    Attributes:
      filters: which documents are kept.
      work: tokenizes them.
    """

    filters: Filters
    work: ChunkTokenizer

    def __call__(self, shard: Corpus) -> Iterator[bytes]:
        return map(to_block, tokenize(selected(shard, self.filters, None), self.work, workers=1))


def tokenize_shards(
    corpus: Corpus, filters: Filters, work: ChunkTokenizer, beam: Beam, folder: str
) -> Iterator[TokenizedChunk]:
    """Tokenizes `corpus` by `beam`, then yields what `tokenize` would: the records in order, in other chunks.

    Args:
      corpus: its shards are the files of a corpus of files; any other corpus is one shard.
      filters: which documents are kept; they may not look for duplicates.
      work: tokenizes them.
      beam: where.
      folder: that all machines reach, for what they hand over.

    Raises:
      UserError: bad text (the corpus's first), a damaged file in `folder`, or see `Beam.run`.
    """
    blocks = beam.run(TokenizeShard(filters, work), shards_of(corpus), folder)
    return (_chunk(block, folder) for block in blocks)


def _chunk(block: bytes, folder: str) -> TokenizedChunk:
    try:
        return from_block(block)
    except ValueError as error:
        raise UserError(f"{folder}: {error}: remove the folder and start again") from None

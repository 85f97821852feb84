"""Which vocabulary a store gets: given, another store's, bytes, or one trained on its own text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from triarch.data.manifest import MOST_IDS
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.prepare.corpora.documents import Document, LeftOut
from triarch.prepare.corpora.splits import TRAIN, VALIDATION, Splitting
from triarch.prepare.sentencepiece_training import MODEL_TYPES, train_sentencepiece
from triarch.tokenizers import (
    ByteTokenizer,
    ExtraIds,
    Tokenizer,
    given_tokenizer,
    load_tokenizer,
    with_extra_ids,
)

BYTES = "bytes"
SENTENCEPIECE = "sentencepiece"


@dataclasses.dataclass(frozen=True)
class VocabularyChoice:
    """Which vocabulary a store gets.

    Attributes:
      source: "bytes", "sentencepiece" (trained on the store's own training split), or a path: see `given_tokenizer`.
      size: ids of a trained vocabulary (32,768 as RedLLM, arXiv 2510.26622).
      model_type: of a trained vocabulary, "bpe" or "unigram".
      store: path of a store whose vocabulary is taken, in place of all others.
      extra: ids to put behind the vocabulary's own.
    """

    source: str = SENTENCEPIECE
    size: int = 32768
    model_type: str = MODEL_TYPES[0]
    store: Path | None = None
    extra: ExtraIds = dataclasses.field(default_factory=ExtraIds)

    def existing(self) -> Tokenizer | None:
        """Returns the tokenizer, or None if it is to be trained.

        Raises:
          UserError: there is none, or it is not usable, or has such extra ids already.
        """
        if self.store is not None:
            base: Tokenizer = load_tokenizer(TokenStore.open(self.store))
        elif self.source == BYTES:
            base = ByteTokenizer()
        elif self.source == SENTENCEPIECE:
            if not 1 <= self.size <= MOST_IDS:
                raise UserError(f"vocabulary_size={self.size}: expected 1 to {MOST_IDS:,}")
            return None
        else:
            path = Path(self.source)
            if not self.source or (not path.suffix and not path.exists()):
                raise UserError(
                    f"vocabulary={self.source}: expected bytes, sentencepiece, or the path of a .model file, a "
                    "tokenizer.json or a folder that holds one"
                )
            base = given_tokenizer(path)
        return with_extra_ids(base, self.extra)

    def required(self, reader: str) -> Tokenizer:
        """Returns the tokenizer of what trains none of its own; `reader` is what is called so in the message.

        Raises:
          UserError: there is none, see `existing`.
        """
        tokenizer = self.existing()
        if tokenizer is None:
            raise UserError(
                f"{reader} reads texts with a vocabulary that is there: name a model's folder, a tokenizer.json or "
                "bytes with --vocabulary, or a store with --vocabulary_from"
            )
        return tokenizer

    def trained(self, texts: Iterable[str]) -> Tokenizer:
        """Returns a tokenizer trained on `texts`.

        Raises:
          UserError: there is no text, or it is too little or too much for the size.
        """
        texts = iter(texts)
        first = next(texts, None)
        if first is None:
            raise UserError("the corpus is empty: no text to train a vocabulary on")
        return with_extra_ids(train_sentencepiece(_chain(first, texts), self.size, self.model_type), self.extra)


def training_texts(
    records: Iterable[Document | LeftOut], splitting: Splitting, advance: Callable[[int], None]
) -> Iterator[str]:
    """Yields the texts of the training split: held-out text must not shape a vocabulary, unless there is no other."""
    wanted = TRAIN if TRAIN in splitting.names else VALIDATION
    for record in records:
        advance(record.progress)
        if isinstance(record, Document) and splitting.of(record) == wanted:
            yield record.whole


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest

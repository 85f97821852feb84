"""Corpora as SeqIO data sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import seqio
import tensorflow as tf

from triarch.prepare.corpora.documents import Corpus, LeftOut, has_inputs
from triarch.prepare.corpora.splits import DEFAULT_VALIDATION_FRACTION, Splitting


class CorpusSource(seqio.DataSource):
    """The documents of a corpus, in its order; splits as `triarch prepare` makes them.

    {"text": string}, or {"inputs": string, "targets": string} where the corpus has both.

    Attributes:
      corpus: where `prepare` reads the documents without TensorFlow.
      validation_fraction: of the documents.
      splitting: which documents go to which split.
    """

    def __init__(
        self,
        corpus: Corpus,
        validation_fraction: float = DEFAULT_VALIDATION_FRACTION,
        hold_out: tuple[str, ...] = (),
    ):
        """A source of `corpus` with about `validation_fraction` of its documents in the split "validation", and those
        whose file or id matches a pattern of `hold_out` in the split "test"."""
        self.corpus = corpus
        self.validation_fraction = validation_fraction
        self.splitting = Splitting(validation_fraction, hold_out)
        super().__init__(splits=self.splitting.names)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return False

    def list_shards(self, split: str) -> Sequence[str]:
        return [split]

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        *,
        sequence_length: dict[str, int] | None = None,
        use_cached: bool = False,
        num_epochs: int | None = 1,
    ) -> tf.data.Dataset:
        """Returns the split's documents; SeqIO shuffles them where it is asked to."""
        if split not in self.splits:
            raise ValueError(f"unknown split {split!r}: one of {list(self.splits)}")
        if shard_info is not None and shard_info.num_shards > 1:
            raise ValueError("a corpus is one shard: shard the examples with tf.data.Dataset.shard")
        signature = {name: tf.TensorSpec([], tf.string) for name in self._features}
        return tf.data.Dataset.from_generator(lambda: self._examples(split), output_signature=signature)

    @property
    def _features(self) -> list[str]:
        return ["inputs", "targets"] if has_inputs(self.corpus) else ["text"]

    def _examples(self, split: str) -> Iterator[dict[str, bytes]]:
        for document in self.corpus.documents():
            if isinstance(document, LeftOut) or self.splitting.of(document) != split:
                continue
            texts = [document.text] if document.inputs is None else [document.inputs, document.text]
            yield {name: text.encode() for name, text in zip(self._features, texts, strict=True)}

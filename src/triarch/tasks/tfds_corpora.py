"""Any TensorFlow data set (TFDS) that lies prepared on disk, as a corpus."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from triarch.errors import UserError, nearest
from triarch.prepare.corpora.documents import EMPTY, BadRecordError, Document, LeftOut
from triarch.prepare.corpora.origins import Origin, named, place


@dataclasses.dataclass(frozen=True)
class TfdsCorpus:
    """The examples of one split of a TFDS data set, in the order of its files.

    Nothing is downloaded: the data set is expected where `tfds build` puts it.

    Attributes:
      name: of the data set, with its config and version where they matter: "c4/en:3.0.1".
      split: "train", or anything TFDS takes: "train[:10%]".
      text_field: the feature that holds the document, or an example's targets; a string.
      inputs_field: the feature that holds an example's inputs; None for plain documents.
      data_dir: the folder of TFDS data sets, a path or gs:// URL; TFDS' own default when None.
      skip_bad_records: leave out texts that are not UTF-8, an error otherwise.
    """

    name: str
    split: str = "train"
    text_field: str = "text"
    inputs_field: str | None = None
    data_dir: str | None = None
    skip_bad_records: bool = False

    def documents(self) -> Iterator[Document | LeftOut]:
        """Yields the split's documents.

        Raises:
          UserError: the data set is not there, lacks the split or a feature, or a text is not UTF-8.
        """
        self._check_features()
        _ = self._split_info
        # One file after another: TFDS would interleave them.
        config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        decoders = tfds.decode.PartialDecoding(dict.fromkeys(self._fields, True))
        dataset = self._builder.as_dataset(split=self.split, shuffle_files=False, read_config=config, decoders=decoders)
        source = f"{self.name}:{self.split}"
        for index, example in enumerate(dataset.as_numpy_iterator()):
            try:
                yield self._document(named(source, index), example)
            except BadRecordError as error:
                if not self.skip_bad_records:
                    raise
                yield LeftOut(error.reason, error.place, 1)

    @property
    def size(self) -> int:
        """Examples in the split."""
        return self._split_info.num_examples

    @property
    def version(self) -> str:
        """The data set's full name and its split's size."""
        return f"{self._builder.info.full_name} {self.split} {self.size} {self._fields}"

    def provenance(self) -> dict[str, Any]:
        """Returns the data set's full name, its split and what was read of it."""
        return {
            "tfds": self._builder.info.full_name,
            "split": self.split,
            "examples": self.size,
            "features": self._fields,
        }

    @property
    def _fields(self) -> list[str]:
        return [self.text_field] if self.inputs_field is None else [self.inputs_field, self.text_field]

    @functools.cached_property
    def _builder(self) -> tfds.core.DatasetBuilder:
        where = self.data_dir or "TFDS' default folder"
        try:
            builder = tfds.builder(self.name, data_dir=self.data_dir, try_gcs=False)
        except (tfds.core.registered.DatasetNotFoundError, ValueError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"tfds:{self.name}: no such data set in {where} (--data_dir): {reason}") from None
        if not builder.info.splits:
            raise UserError(
                f"tfds:{self.name}: not prepared in {builder.data_dir}: run `tfds build {self.name}`, or give its "
                "folder with --data_dir"
            )
        return builder

    @property
    def _split_info(self) -> tfds.core.SplitInfo:
        splits = self._builder.info.splits
        try:
            return splits[self.split]
        except (KeyError, ValueError):
            raise UserError(f"tfds:{self.name}: no split {self.split!r}{nearest(self.split, splits)}") from None

    def _check_features(self) -> None:
        features = self._builder.info.features
        for name in self._fields:
            if name not in features:
                raise UserError(f"tfds:{self.name}: no feature {name!r}{nearest(name, features)}")
            spec = features[name].get_tensor_info()
            if not isinstance(spec, tfds.core.features.TensorInfo) or spec.shape or spec.tf_dtype != tf.string:
                raise UserError(f"tfds:{self.name}: feature {name!r} is {spec}, expected a string")

    def _document(self, origin: Origin, example: dict[str, bytes]) -> Document | LeftOut:
        texts = [_decoded(place(origin), name, example[name]) for name in self._fields]
        if not texts[-1]:
            return LeftOut(EMPTY, place(origin), 1)
        if self.inputs_field is None:
            return Document(texts[0], texts[0], 1, origin=origin)
        document = Document(texts[1], texts[1], 1, texts[0], origin)
        return dataclasses.replace(document, key=document.whole)


def _decoded(place: str, name: str, text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        message = f"feature {name!r} is not UTF-8: byte 0x{byte:02x} at offset {error.start}"
        raise BadRecordError("not UTF-8", place, message) from None

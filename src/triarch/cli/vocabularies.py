"""The tokenizer of a loaded model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.interchange import LoadedModel, StoredModel
    from triarch.tokenizers import Tokenizer


def tokenizer_of(model: LoadedModel | StoredModel) -> Tokenizer:
    """Returns the tokenizer of a model's vocabulary.

    Raises:
      UserError: the vocabulary is unknown, or its files are missing or damaged.
    """
    from triarch.data.manifest import Vocabulary
    from triarch.tokenizers import read_tokenizer
    from triarch.tokenizers.bytes import KIND

    if model.vocabulary is None:
        raise UserError(f"{model.path} does not say which vocabulary it was trained on, so it cannot read text")
    info = Vocabulary(**model.vocabulary)
    if model.vocabulary_files is None and info.kind != KIND:
        raise UserError(f"{model.path}: the files of its vocabulary are missing, so it cannot read text")
    return read_tokenizer(info, model.vocabulary_files or model.path, str(model.path))

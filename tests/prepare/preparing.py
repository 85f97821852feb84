"""Small stores for tests of `prepare`."""

from __future__ import annotations

import numpy as np

from tests.tokenizers.texts import Documents
from triarch.prepare import tokenization
from triarch.prepare.pipeline import VocabularyChoice, prepare
from triarch.tokenizers import cuts

WINDOW = 64
BYTES = VocabularyChoice("bytes")
CORPUS = Documents()


def prepared(path, corpus=CORPUS, vocabulary=BYTES, fraction=0.2, workers=1, **options):
    """Returns the store that `prepare` writes at `path`."""
    return prepare(corpus, "test", path, vocabulary, options.pop("window", WINDOW), fraction, workers, **options)


def contents(path):
    """Returns what all files below a folder hold, by name."""
    files = [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def all_tokens(store, split):
    """Returns the tokens of a split's examples one after another."""
    reader = store.split(split)
    return np.concatenate([reader[index]["tokens"] for index in range(len(reader))])


def hand_over_in_parts(patch, document=200, part=30):
    """Has documents of more than so many characters handed over in parts of about so many."""
    patch.setattr(tokenization, "_LONG_CHARACTERS", document)
    patch.setattr(cuts, "PART_CHARACTERS", part)

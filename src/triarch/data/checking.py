"""Reads a whole store, to find whatever damage there is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.files import sha256


def find_damage(store: TokenStore, advance: Callable[[int], None] = lambda examples: None) -> Iterator[str]:
    """Yields a line for each fault of a store that opening it does not show: file, record and what is wrong.

    All records are read, each with its checksum; their ids must be the vocabulary's. Tables that say where documents
    come from must have the sha256 that the manifest has for them.

    Args:
      store: to be read.
      advance: told how many examples more were read.
    """
    size = store.manifest.vocabulary.size
    for name, split in store.manifest.splits.items():
        if not split.examples:
            continue
        try:
            reader = store.split(name)
        except UserError as error:
            yield str(error)
            continue
        for index in range(len(reader)):
            try:
                example = reader[index]
                tokens = np.concatenate([example[part] for part in reader.token_parts])
            except UserError as error:
                yield str(error)
            else:
                if tokens.min(initial=0) < 0 or tokens.max(initial=0) >= size:
                    found = tokens[(tokens < 0) | (tokens >= size)][0]
                    yield f"{reader.place(index)} has id {found}, the vocabulary has {size:,}"
            advance(1)
    for tables in (store.manifest.provenance or {}).values():
        for file in (*tables.documents, *tables.pieces):
            path = store.path / file.name
            if sha256(path) != file.sha256:
                yield f"{path} has changed since it was written"

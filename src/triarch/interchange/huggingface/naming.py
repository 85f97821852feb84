"""Which stored tensor is which of the class's: old names, bodies saved alone, tied tensors under any of their names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator

from triarch.errors import UserError
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.reader import FolderTensors, TensorEntry


def without_ignored(tensors: FolderTensors, family: Family) -> tuple[FolderTensors, tuple[str, ...]]:
    """Returns the tensors under the names of newer files, and the names of those that are no part of the network.

    Raises:
      UserError: a tensor is there under both names.
    """
    patterns = [re.compile(pattern) for pattern in family.ignored]
    left_out: list[str] = []

    def kept() -> Iterator[tuple[str, TensorEntry]]:
        for name, entry in tensors.entries.items():
            renamed = name
            for old, new in family.renamed:
                renamed = renamed.removesuffix(old) + new if renamed.endswith(old) else renamed
            if any(pattern.search(renamed) for pattern in patterns):
                left_out.append(name)
            else:
                yield renamed, dataclasses.replace(entry, stored_name=name)

    entries = _by_name(kept())
    return dataclasses.replace(tensors, entries=entries), tuple(sorted(left_out))


def with_tied(tensors: FolderTensors, family: Family) -> FolderTensors:
    """Returns the tensors and, where only a copy of a tied one is stored, the copy under the other's name as well.

    As transformers does it, the first copy there is stands for the tensor.
    """
    entries = dict(tensors.entries)
    stored = {name.removeprefix(family.prefix): entry for name, entry in entries.items()}
    for copy, source in family.copies.items():
        short, copy = source.removeprefix(family.prefix), copy.removeprefix(family.prefix)
        if short not in stored and copy in stored:
            entries[source] = stored[short] = stored[copy]
    return dataclasses.replace(tensors, entries=entries)


def with_prefix(tensors: FolderTensors, prefix: str, known: Iterable[str]) -> FolderTensors:
    """Returns the tensors, those of a body that was saved alone under the names that they have in the whole class.

    Raises:
      UserError: a tensor is there under both names.
    """
    known = set(known)

    def named(name: str) -> str:
        return name if name in known or f"{prefix}{name}" not in known else f"{prefix}{name}"

    return dataclasses.replace(
        tensors, entries=_by_name((named(name), entry) for name, entry in tensors.entries.items())
    )


def _by_name(entries: Iterable[tuple[str, TensorEntry]]) -> dict[str, TensorEntry]:
    found: dict[str, TensorEntry] = {}
    for name, entry in entries:
        if name in found:
            both = f"{found[name].stored_name!r} and {entry.stored_name!r}"
            raise UserError(f"{entry.file}: two tensors are the same one: {both}")
        found[name] = entry
    return found

"""Texts that a program holds already, as a corpus."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

from triarch.prepare.corpora.documents import EMPTY, Document, LeftOut
from triarch.prepare.corpora.origins import named


@dataclasses.dataclass(frozen=True)
class Texts:
    """Each text a document, by its place among them.

    Attributes:
      texts: in order.
      name: what tables of origins call them.
    """

    texts: tuple[str, ...]
    name: str = "texts"

    def documents(self) -> Iterator[Document | LeftOut]:
        """Yields the documents, and what is left out because it is empty."""
        for number, text in enumerate(self.texts):
            if text:
                yield Document(text, text, len(text), origin=named(self.name, number))
            else:
                yield LeftOut(EMPTY, f"{self.name}:{number}", 0)

    @property
    def size(self) -> int:
        """Characters of all texts."""
        return sum(map(len, self.texts))

    @property
    def version(self) -> str:
        """The sha256 of the texts and their lengths."""
        digest = hashlib.sha256()
        for text in self.texts:
            encoded = text.encode(errors="surrogatepass")
            digest.update(f"{len(encoded)}\n".encode() + encoded)
        return digest.hexdigest()

    def provenance(self) -> dict[str, Any]:
        """Returns name, number and sha256."""
        return {"name": self.name, "texts": len(self.texts), "sha256": self.version}

"""triarch: encoder-only, decoder-only and encoder-decoder language models under one recipe."""

from __future__ import annotations

import os
import typing

if typing.TYPE_CHECKING:
    from triarch.interchange import LoadedModel

__version__ = "0.1.0"


def load(path: str | os.PathLike[str], **options: typing.Any) -> LoadedModel:
    """Loads a run, an export or an import; see `triarch.loading.load`, which is imported when this is called."""
    from triarch import loading

    return loading.load(path, **options)

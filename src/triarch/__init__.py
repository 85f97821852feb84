"""triarch: encoder-only, decoder-only and encoder-decoder language models under one recipe."""

from __future__ import annotations

import os
import typing

from triarch.version import __version__ as __version__

if typing.TYPE_CHECKING:
    from triarch.interchange import LoadedModel


def load(path: str | os.PathLike[str], **options: typing.Any) -> LoadedModel:
    """Loads a run, an export or an import; see `triarch.loading.load`, which is imported when this is called."""
    from triarch import loading

    return loading.load(path, **options)


def register_law(law: type) -> type:
    """Makes a scaling law of one's own known; see `triarch.scaling.laws.registry.register`."""
    from triarch.scaling.laws import registry

    return registry.register(law)

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


def register_objective(cls: type) -> type:
    """Makes an objective of one's own known; see `triarch.objectives.register_objective`."""
    from triarch import objectives

    return objectives.register_objective(cls)


def register_optimizer(cls: type) -> type:
    """Makes an optimizer of one's own known; see `triarch.training.optimizers.register_optimizer`."""
    from triarch.training import optimizers

    return optimizers.register_optimizer(cls)


def register_schedule(cls: type) -> type:
    """Makes a learning-rate schedule of one's own known; see `triarch.training.schedules.register_schedule`."""
    from triarch.training import schedules

    return schedules.register_schedule(cls)

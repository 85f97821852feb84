"""triarch: encoder-only, decoder-only and encoder-decoder language models under one recipe.

model = triarch.load("runs/first")             # a run, an export or a Hugging Face folder
model.generate("def main(", max_new_tokens=40)
model.score([("context", "continuation")])
triarch.results("runs/study").to_pandas()
"""

from __future__ import annotations

import os

from triarch.version import __version__

# Of typing, which takes a moment to import: the program looks after Ctrl-C only once this file was read.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from triarch.errors import UserError
    from triarch.results_table import Results
    from triarch.text_model import Model

__all__ = [
    "UserError",
    "__version__",
    "load",
    "register_law",
    "register_objective",
    "register_optimizer",
    "register_schedule",
    "results",
]


def __getattr__(name: str) -> Any:
    if name == "UserError":
        from triarch.errors import UserError

        return UserError
    raise AttributeError(f"module 'triarch' has no attribute {name!r}")


def load(path: str | os.PathLike[str], **options: Any) -> Model:
    """Loads a run, an export or a Hugging Face folder, with its tokenizer; see `triarch.text_model.Model`.

    Args:
      path: the folder.
      options: `step` of a run, `execution`, `placement`: see `triarch.loading.load`.
    """
    from triarch import loading

    return loading.load_text_model(path, **options)


def register_law(law: type) -> type:
    """Makes a scaling law of one's own known; see `triarch.scaling.laws.registry.register`."""
    from triarch.scaling.laws import registry

    return registry.register(law)


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


def results(study: str | os.PathLike[str], table: str = "results") -> Results:
    """Returns a table of a study's folder as columns; see `triarch.results_table.read_results`."""
    from triarch import results_table

    return results_table.read_results(study, table)

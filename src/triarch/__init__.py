"""triarch: encoder-only, decoder-only and encoder-decoder language models under one recipe.

model = triarch.load("runs/first")             # a run, an export or a Hugging Face folder
model.generate("def main(", max_new_tokens=40)
model.score([("context", "continuation")])
model.embed(["a text", "another"], normalize=True)
triarch.fit(dataframe, "chinchilla", {"params": "N", "tokens": "D", "loss": "loss"}).summary()
triarch.results("runs/study").to_pandas()
"""

from __future__ import annotations

import os

from triarch.version import __version__

# Of typing, which takes a moment to import: the program looks after Ctrl-C only once this file was read.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from triarch.api import Fitted, embed, fit, generate, make_store, plan, run_config, score, train
    from triarch.errors import UserError
    from triarch.results_table import Results
    from triarch.text_model import Model

__all__ = [
    "Fitted",
    "UserError",
    "__version__",
    "embed",
    "fit",
    "generate",
    "load",
    "make_store",
    "plan",
    "register_feed_forward",
    "register_law",
    "register_mixer",
    "register_objective",
    "register_optimizer",
    "register_schedule",
    "results",
    "run_config",
    "score",
    "train",
]


def __getattr__(name: str) -> Any:
    from triarch.lazy import names_from

    api = ("Fitted", "embed", "fit", "generate", "make_store", "plan", "run_config", "score", "train")
    return names_from(__name__, {"api": api, "errors": ("UserError",)})(name)


def load(path: str | os.PathLike[str], **options: Any) -> Model:
    """Loads a run, an export or a Hugging Face folder, with its tokenizer; see `triarch.text_model.Model`.

    Args:
      path: the folder.
      options: `step` of a run, `execution`, `placement`: see `triarch.loading.load`.
    """
    from triarch import loading

    return loading.load_text_model(path, **options)


def register_feed_forward(cls: type) -> type:
    """Makes a feed-forward layer of one's own known; see `triarch.models.register_feed_forward`."""
    from triarch import models

    return models.register_feed_forward(cls)


def register_law(law: type) -> type:
    """Makes a scaling law of one's own known; see `triarch.scaling.laws.registry.register`."""
    from triarch.scaling.laws import registry

    return registry.register(law)


def register_mixer(cls: type) -> type:
    """Makes a mixer of one's own known; see `triarch.models.register_mixer`."""
    from triarch import models

    return models.register_mixer(cls)


def register_objective(cls: type) -> type:
    """Makes an objective of one's own known; see `triarch.objectives.register_objective`."""
    from triarch import objectives

    return objectives.register_objective(cls)


def register_optimizer(cls: type) -> type:
    """Makes an optimizer of one's own known; see `triarch.training.optimizers.optimizer.register_optimizer`."""
    from triarch.training.optimizers import optimizer as optimizers

    return optimizers.register_optimizer(cls)


def register_schedule(cls: type) -> type:
    """Makes one's own learning-rate schedule known; see `triarch.training.optimizers.schedules.register_schedule`."""
    from triarch.training.optimizers import schedules

    return schedules.register_schedule(cls)


def results(study: str | os.PathLike[str], table: str = "results") -> Results:
    """Returns a table of a study's folder as columns; see `triarch.results_table.read_results`."""
    from triarch import results_table

    return results_table.read_results(study, table)

"""The metrics of a classifier while it is trained: on the whole validation split, as `triarch evaluate` has them."""

from __future__ import annotations

from collections.abc import Mapping

from triarch.data.store import TokenStore
from triarch.evaluation.classification import Classifier
from triarch.evaluation.label_metrics import require_library
from triarch.interchange import LoadedModel
from triarch.training.config import RunConfig

PREFIX = "validation/"


class LabelEvaluator:
    """A `TaskEvaluator` whose task is the validation split: "validation/accuracy", "validation/f1", ..."""

    def __init__(self, config: RunConfig, store: TokenStore):
        self._config = config
        self._store = store
        self._classifier: Classifier | None = None

    def check(self, model: LoadedModel) -> None:
        """Raises UserError where the library for metrics is missing, or the split."""
        require_library()
        self._classifier = Classifier(model, self._store, self._config.data.validation_split, self._config.batch_size)

    def __call__(self, model: LoadedModel, step: int) -> Mapping[str, float | None]:
        """Returns the metrics of the objective after `step` updates."""
        assert self._classifier is not None
        found = vars(self._classifier())
        return {f"{PREFIX}{name}": found[name] for name in getattr(self._config.objective, "metrics", ())}


def evaluates_labels(config: RunConfig) -> bool:
    """Returns whether a run's validation is of labels."""
    return config.eval_every is not None and hasattr(config.objective, "metrics")

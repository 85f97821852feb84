"""How well labels are told: by scikit-learn and SciPy, on all labels of a split at once."""

from __future__ import annotations

import math

import numpy as np

from triarch.data.manifest import VALUES
from triarch.errors import UserError

METRICS = ("accuracy", "f1", "matthews", "pearson", "spearman")


def label_metrics(kind: str, num_labels: int, told: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """Returns every one of METRICS; None where it says nothing of such labels, or is not defined.

    F1 is that of class 1 where there are two, as GLUE has it, and the mean over classes where there are more.

    Args:
      kind: of the labels, see `data.manifest.Labels`.
      num_labels: how many classes there are.
      told: what the model says: classes, or values.
      labels: what is so, of the same shape; negative classes are left out.

    Raises:
      UserError: scikit-learn is not installed.
    """
    found: dict[str, float | None] = dict.fromkeys(METRICS)
    if kind == VALUES:
        from scipy import stats

        if len(labels) > 1 and np.ptp(told) > 0 and np.ptp(labels) > 0:
            found["pearson"] = _number(stats.pearsonr(told, labels).statistic)
            found["spearman"] = _number(stats.spearmanr(told, labels).statistic)
        return found
    require_library()
    from sklearn import metrics

    there = labels >= 0
    told, labels = told[there], labels[there]
    found["accuracy"] = _number(metrics.accuracy_score(labels, told))
    average = {"average": "binary"} if num_labels == 2 else {"average": "macro", "labels": list(range(num_labels))}
    found["f1"] = _number(metrics.f1_score(labels, told, zero_division=0.0, **average))
    found["matthews"] = _number(metrics.matthews_corrcoef(labels, told))
    return found


def require_library() -> None:
    """Raises UserError unless scikit-learn is installed."""
    try:
        import sklearn.metrics  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"metrics of labels need {error.name}: pip install 'triarch[classification]'") from None


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

"""What SeqIO's metrics return, as plain numbers and texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio


def plain_metrics(metrics: Mapping[str, Any]) -> dict[str, float | str | None]:
    """Returns the numbers and texts of metrics by name, None for a number that is not finite.

    Images, sounds, histograms and tensors, which have no place in JSON, are left out.
    """
    found: dict[str, float | str | None] = {}
    for name, value in metrics.items():
        if isinstance(value, seqio.metrics.Scalar):
            value = value.value
        elif isinstance(value, seqio.metrics.Text):
            value = value.textdata.decode(errors="replace") if isinstance(value.textdata, bytes) else value.textdata
        if isinstance(value, str):
            found[str(name)] = value
        elif not isinstance(value, seqio.metrics.MetricValue) and np.ndim(value) == 0:
            number = float(value)
            found[str(name)] = number if math.isfinite(number) else None
    return found

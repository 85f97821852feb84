"""What the report's interactive figure is drawn from: every finished run with all its numbers."""

from __future__ import annotations

import base64
import functools
import gzip
import math

from plotly.offline import get_plotlyjs

from triarch.report.study import ROLE_WORDS, StudyFolder, StudyRun
from triarch.scaling.figures.style import SERIES

_COLUMNS = {
    "parameters": "num_params",
    "parameters without the embedding": "num_params_non_embedding",
    "training tokens": "train_tokens",
    "target tokens": "target_tokens",
    "training FLOPs, paper convention": "flops_paper",
    "training FLOPs, train convention": "flops_train",
    "final training loss (nats/token)": "final_train_loss",
    "training time (s)": "seconds",
    "tokens per second": "tokens_per_second",
}


def explorer_data(study: StudyFolder) -> dict[str, object]:
    """Returns columns by name, the two shown first, families by label, and for each its runs' names and values.

    Values that are not known are None, as JSON has no NaN.
    """
    columns = [*_COLUMNS, *(f"loss on {one.name}, {ROLE_WORDS[one.role]} (nats/token)" for one in study.corpora)]
    families = [family for family in study.families if study.of_family(family)]
    return {
        "columns": columns,
        "x": columns.index("training FLOPs, train convention"),
        "y": len(_COLUMNS) if study.corpora else list(_COLUMNS.values()).index("final_train_loss"),
        "families": [study.label(family) for family in families],
        "colours": len(SERIES),
        "runs": [
            [{"name": run.name, "values": _values(study, run)} for run in study.of_family(family)]
            for family in families
        ],
    }


@functools.cache
def packed_plotly() -> str:
    """Returns Plotly's JavaScript, gzip in base64: 1.9 MB instead of 4.9, unpacked when the figure comes into view."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _values(study: StudyFolder, run: StudyRun) -> list[float | None]:
    values = [run.numbers[name] for name in _COLUMNS.values()]
    values += [run.score(corpus)[0] for corpus in study.corpora]
    return [value if math.isfinite(value) else None for value in values]

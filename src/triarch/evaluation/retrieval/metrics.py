"""Measures of a ranking, as trec_eval defines them: a value for each query; and intervals of their means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

NDCG, MRR, RECALL = "ndcg@10", "mrr@10", "recall@100"
METRICS = (NDCG, MRR, RECALL)
# Passages that must be ranked.
DEPTH = 100
_CUT = 10
_RESAMPLES = 2000
_SEED = 0


def measured(ranked: Sequence[str], grades: Mapping[str, int]) -> dict[str, float]:
    """Returns the measures of one query.

    nDCG has linear gains and the discount 1 / log2(rank + 1), and the ideal order is that of all judged passages
    (trec_eval's `ndcg_cut`, which BEIR and MTEB report). A passage of a grade above 0 is relevant.

    Args:
      ranked: ids of passages, the best first.
      grades: of the judged passages, at least one of them above 0.
    """
    gains = [max(grades.get(passage, 0), 0) for passage in ranked]
    ideal = sorted((max(grade, 0) for grade in grades.values()), reverse=True)
    first = next((rank for rank, gain in enumerate(gains[:_CUT], 1) if gain), None)
    return {
        NDCG: _discounted(gains[:_CUT]) / _discounted(ideal[:_CUT]),
        MRR: 0.0 if first is None else 1 / first,
        RECALL: sum(gain > 0 for gain in gains[:DEPTH]) / sum(grade > 0 for grade in ideal),
    }


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Returns a bootstrap interval (percentiles) of the mean over queries, always the same one for the same values."""
    found = np.asarray(values, np.float64)
    rng = np.random.default_rng(_SEED)
    means = np.array([found[rng.integers(0, len(found), len(found))].mean() for _ in range(_RESAMPLES)])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)

"""How well cosines of pairs of texts agree with the scores that people gave them (STS)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from triarch.errors import UserError
from triarch.evaluation.embedding import embed
from triarch.interchange import LoadedModel
from triarch.interchange.embedder import Embedder
from triarch.prepare.corpora.documents import BadRecordError
from triarch.prepare.corpora.files.rows import rows
from triarch.tokenizers import Tokenizer

FIELDS = ("sentence1", "sentence2", "score")
_RESAMPLES = 1000
_SEED = 0


@dataclasses.dataclass(frozen=True)
class ScoredPairs:
    """Pairs of texts with a score each."""

    first: Sequence[str]
    second: Sequence[str]
    scores: Sequence[float]


def read_pairs(path: Path, fields: Sequence[str] = FIELDS) -> ScoredPairs:
    """Reads a TSV, CSV, JSON lines or Parquet file.

    Args:
      path: the file.
      fields: names of the two texts and of their score.

    Raises:
      UserError: it cannot be read, a text is empty, a score is no number, or there are fewer than three pairs.
    """
    texts: tuple[list[str], list[str]] = ([], [])
    scores = []
    for row in rows(str(path), fields):
        if isinstance(row, BadRecordError):
            raise row
        for own, name in zip(texts, fields, strict=False):
            text = row.values[name]
            if not isinstance(text, str) or not text.strip():
                raise UserError(f"{row.place}: {name!r} is empty: expected a text")
            own.append(text)
        scores.append(_number(row.values[fields[2]], fields[2], row.place))
    if len(set(scores)) < 2:
        raise UserError(f"{path}: has {len(scores)} pairs of {len(set(scores))} scores: ranks need at least two scores")
    return ScoredPairs(*texts, scores)


def evaluate_similarity(
    model: LoadedModel,
    tokenizer: Tokenizer,
    pairs: ScoredPairs,
    embedder: Embedder,
    *,
    prompt: str = "",
    max_length: int | None = None,
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda texts: None,
) -> dict[str, Any]:
    """Returns Spearman's and Pearson's correlation of cosines and scores, Spearman's with a 95 percent interval.

    The interval is a bootstrap over pairs.

    Raises:
      UserError: a prompt leaves no room for a text.
    """
    embedder = dataclasses.replace(embedder, normalize=True)
    options: dict[str, Any] = {"prompt": prompt, "max_length": max_length, "batch_size": batch_size, "advance": advance}
    found = embed(model, tokenizer, [*pairs.first, *pairs.second], embedder, **options).vectors
    first, second = np.split(found.astype(np.float64), 2)
    cosines, scores = (first * second).sum(1), np.asarray(pairs.scores, np.float64)
    rng = np.random.default_rng(_SEED)
    resampled = []
    for _ in range(_RESAMPLES):
        chosen = rng.integers(0, len(scores), len(scores))
        if len(np.unique(scores[chosen])) > 1:
            resampled.append(_spearman(cosines[chosen], scores[chosen]))
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {
        "spearman": _spearman(cosines, scores),
        "pearson": float(scipy.stats.pearsonr(cosines, scores).statistic),
        "intervals": {"spearman": [float(low), float(high)]},
        "num_pairs": len(scores),
    }


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    return float(scipy.stats.spearmanr(first, second).statistic)


def _number(value: Any, name: str, place: str) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise UserError(f"{place}: {name!r} = {value!r}: expected a number")
    return number

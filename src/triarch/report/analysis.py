"""What a study's numbers say: the law of each family on each axis, and findings in sentences."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from triarch.report.study import ScoredCorpus, StudyFolder, StudyRun
from triarch.scaling.checks.comparison import Difference, loss_gap
from triarch.scaling.checks.frontier import Frontier
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.power import Power
from triarch.scaling.requests.outcome import fit_groups
from triarch.scaling.tables.columns import Columns

AXES = {
    "num_params": "parameters N",
    "num_params_non_embedding": "parameters N without the embedding",
    "flops_paper": "FLOPs C (paper convention)",
    "flops_train": "FLOPs C (train convention)",
}


@dataclasses.dataclass(frozen=True)
class FamilyLaw:
    """The power law of one family on one axis for one corpus; `fit` is None where there are too few sizes."""

    family: str
    corpus: ScoredCorpus
    axis: str
    scoring: str
    runs: tuple[StudyRun, ...]
    x: np.ndarray
    loss: np.ndarray
    error: np.ndarray
    fit: Any


def family_laws(study: StudyFolder, bootstraps: int, seed: int) -> list[FamilyLaw]:
    """Fits every family's losses, by corpus, against parameters, with and without the embedding, and against FLOPs in
    both conventions."""
    laws: list[FamilyLaw] = []
    groups, options = {}, {}
    for index, family in enumerate(study.families):
        for corpus in study.corpora:
            scored = [run for run in study.of_family(family) if math.isfinite(run.score(corpus)[0])]
            if not scored:
                continue
            loss, error = np.array([run.score(corpus) for run in scored]).T
            for axis in AXES:
                x = np.array([run.numbers[axis] for run in scored])
                key = (family, corpus, axis)
                if len(np.unique(x)) >= 2:
                    groups[key] = Columns.of_arrays(x=x, loss=loss).called("x", "N" if is_size(axis) else "C")
                    options[key] = FitOptions(bootstraps=bootstraps, seed=seed).for_group(index)
                scoring = scored[0].comparable_scoring()
                laws.append(FamilyLaw(family, corpus, axis, scoring, tuple(scored), x, loss, error, None))
    fits = fit_groups(Power(), groups, options)
    return [dataclasses.replace(law, fit=fits.get((law.family, law.corpus, law.axis))) for law in laws]


def is_size(axis: str) -> bool:
    """Returns whether an axis counts parameters, not FLOPs."""
    return axis.startswith("num_params")


def gap_at(first: FamilyLaw, second: FamilyLaw) -> Difference | None:
    """Returns how much higher the second law's loss is than the first's at the largest x that both families reach.

    None where the two ranges do not overlap or a law is missing.
    """
    if first.fit is None or second.fit is None:
        return None
    a, b = (Frontier.of_power(law.fit, law.axis) for law in (first, second))
    low, x = max(a.low, b.low), min(a.high, b.high)
    return loss_gap(a, b, x, within=True) if low <= x else None


def compared_families(study: StudyFolder) -> list[str]:
    """Returns the families whose scores may be compared with each other: those with paired scoring."""
    return [f for f in study.families if any(run.comparable_scoring() == "paired" for run in study.of_family(f))]

"""What a study's numbers say: the law of each family on each axis, and findings in sentences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from triarch.scaling.laws import fit_power
from triarch.scaling.result import Fit
from triarch.scaling.study import ROLES, Run, Study
from triarch.scaling.style import short_number

AXES = {
    "num_params": "parameters N",
    "flops_paper": "FLOPs C (paper convention)",
    "flops_train": "FLOPs C (train convention)",
}
ROLE_WORDS = {"in_domain": "in-domain", "out_of_domain": "out-of-domain"}


@dataclasses.dataclass(frozen=True)
class FamilyLaw:
    """The power law of one family on one axis for one role; `fit` is None where there are too few sizes."""

    family: str
    role: str
    axis: str
    scoring: str
    runs: tuple[Run, ...]
    x: np.ndarray
    loss: np.ndarray
    error: np.ndarray
    fit: Fit | None


def family_laws(study: Study, bootstraps: int, seed: int) -> list[FamilyLaw]:
    """Fits every family's losses, by role, against parameters and against FLOPs in both conventions."""
    laws = []
    for index, family in enumerate(study.families):
        for role in ROLES:
            scored = [run for run in study.of_family(family) if math.isfinite(run.score(role)[0])]
            if not scored:
                continue
            loss, error = np.array([run.score(role) for run in scored]).T
            for axis in AXES:
                x = np.array([run.numbers[axis] for run in scored])
                fit = None
                if len(np.unique(x)) >= 2:
                    # Each family its own resamples: their runs are different runs.
                    fit = fit_power(x, loss, bootstraps=bootstraps, seed=seed + index, name="N" if axis == "num_params" else "C")
                scoring = scored[0].comparable_scoring()
                laws.append(FamilyLaw(family, role, axis, scoring, tuple(scored), x, loss, error, fit))
    return laws


def gap_at(first: FamilyLaw, second: FamilyLaw) -> tuple[float, float, tuple[float, float] | None] | None:
    """Returns how much higher the second law's loss is than the first's where both were measured.

    Returns:
      The largest x both families reach, the difference there and its bootstrap interval (None without one); None where
      the two ranges do not overlap or a law is missing.
    """
    if first.fit is None or second.fit is None:
        return None
    low, x = max(first.x.min(), second.x.min()), min(first.x.max(), second.x.max())
    if low > x:
        return None
    gap = float(second.fit.predict(x) - first.fit.predict(x))
    draws = [_draws(law.fit, x) for law in (first, second)]
    if any(draw is None for draw in draws):
        return x, gap, None
    count = min(map(len, draws))
    tail = 50.0 * (1.0 - first.fit.confidence)
    low_gap, high_gap = np.percentile(draws[1][:count] - draws[0][:count], [tail, 100.0 - tail])
    return x, gap, (float(low_gap), float(high_gap))


def findings(study: Study, laws: Sequence[FamilyLaw]) -> list[str]:
    """Returns the study's headline results as sentences, each computed from its tables."""
    sentences = [
        *_best(study),
        *(sentence for axis in AXES for sentence in _gaps(study, laws, axis)),
        *_exponents(study, laws),
        *_domain_shift(study),
        *_cost(study),
        *_unfinished(study),
    ]
    return sentences


def compared_families(study: Study) -> list[str]:
    """Returns the families whose scores may be compared with each other: those with paired scoring."""
    return [f for f in study.families if any(run.comparable_scoring() == "paired" for run in study.of_family(f))]


def _draws(fit: Fit, x: float) -> np.ndarray | None:
    if not fit.samples:
        return None
    return fit.samples["E"] + fit.samples["A"] * x ** -fit.samples["alpha"]


def _score_text(run: Run, role: str) -> str:
    value, error = run.score(role)
    return f"{value:.3f} ± {error:.3f}" if math.isfinite(error) else f"{value:.3f}"


def _largest(study: Study, family: str, role: str) -> Run | None:
    runs = [run for run in study.of_family(family) if math.isfinite(run.score(role)[0])]
    return runs[-1] if runs else None


def _best(study: Study) -> list[str]:
    sentences = []
    paired = compared_families(study)
    for role in ROLES:
        largest = [run for family in paired if (run := _largest(study, family, role))]
        ranked = sorted(largest, key=lambda run: run.score(role)[0])
        if len(ranked) > 1:
            listed = _join(f"{study.label(run.family)} {run.size} {_score_text(run, role)}" for run in ranked)
            sentences.append(
                f"Largest models, {ROLE_WORDS[role]}, on the same target tokens: {listed} nats per token, so"
                f" {study.label(ranked[0].family)} leads by {_separation(ranked[0], ranked[1], role)}."
            )
    for family in study.families:
        run = _largest(study, family, "in_domain")
        if family not in paired and run and run.comparable_scoring() == "pseudo_likelihood":
            sentences.append(
                f"{study.label(family)} {run.size} reaches {_score_text(run, 'in_domain')} nats per token in-domain by"
                " pseudo-likelihood: each token is guessed with both sides in view, so this is not comparable with the others."
            )
    return sentences


def _separation(first: Run, second: Run, role: str) -> str:
    (a, first_error), (b, second_error) = first.score(role), second.score(role)
    spread = math.hypot(first_error, second_error)
    if math.isfinite(spread) and b - a < 2 * spread:
        return f"{b - a:.3f}, less than twice its standard error: no difference is shown"
    return f"{b - a:.3f}"


def _gaps(study: Study, laws: Sequence[FamilyLaw], axis: str) -> list[str]:
    families = compared_families(study)
    chosen = {law.family: law for law in laws if law.axis == axis and law.role == "in_domain" and law.family in families}
    if len(chosen) < 2:
        return []
    first, second = list(chosen.values())[:2]
    found = gap_at(first, second)
    what = {"num_params": "parameters", "flops_paper": "FLOPs (paper convention)", "flops_train": "FLOPs (train convention)"}
    if found is None:
        return []
    x, gap, interval = found
    if gap < 0:
        first, second, gap = second, first, -gap
        interval = interval and (-interval[1], -interval[0])
    sure = ""
    if interval:
        verdict = "" if interval[0] > 0 else ", which includes no gap at all"
        sure = f" ({first.fit.confidence:.0%} interval {_signed(interval[0])} to {_signed(interval[1])}{verdict})"
    return [
        f"At equal {what[axis]}, {short_number(x)}, the fitted laws put {study.label(first.family)} {gap:.3f} nats per token"
        f" below {study.label(second.family)} in-domain{sure}."
    ]


def _exponents(study: Study, laws: Sequence[FamilyLaw]) -> list[str]:
    chosen = [law for law in laws if law.axis == "num_params" and law.role == "in_domain" and law.fit]
    if not chosen:
        return []
    listed = _join(f"{study.label(law.family)} N^-{law.fit.parameters['alpha']:.3f}{_interval(law.fit, 'alpha')}" for law in chosen)
    pure = [law for law in chosen if not law.fit.offset_fitted]
    fewest = min(len(law.x) for law in chosen)
    caution = ""
    if pure:
        caution = (
            f" With {fewest} sizes an irreducible loss cannot be told from the power, so these are pure power laws whose exponents"
            " are not those of laws with an offset."
        )
    return [f"In-domain loss falls with size as {listed}.{caution}"]


def _domain_shift(study: Study) -> list[str]:
    shifts = []
    for family in study.families:
        run = _largest(study, family, "out_of_domain")
        if run and math.isfinite(run.score("in_domain")[0]):
            shift = run.score("out_of_domain")[0] - run.score("in_domain")[0]
            shifts.append(f"{_signed(shift)} for {study.label(family)} {run.size}")
    return [f"Leaving the training domain costs {_join(shifts)} nats per token."] if shifts else []


def _cost(study: Study) -> list[str]:
    runs = [run for run in study.runs if run.finished]
    flops = sum(run.numbers["flops_train"] for run in runs)
    seconds = sum(run.numbers["seconds"] for run in runs)
    sentences = [
        f"{len(runs)} runs took {duration(seconds)} of training and {scientific(flops)} FLOPs (train convention);"
        f" the study took {duration(study.seconds)} on {study.hardware}."
    ]
    families = compared_families(study)
    if len(families) > 1:
        first, second = (study.of_family(family)[-1] for family in families[:2])
        ratio = first.numbers["flops_paper"] / second.numbers["flops_paper"]
        if ratio < 1:
            first, second, ratio = second, first, 1 / ratio
        sizes = f"{short_number(first.numbers['num_params'])} against {short_number(second.numbers['num_params'])} parameters"
        sentences.append(
            f"Over its training, {study.label(first.family)} {first.size} spends {ratio:.2f} times the FLOPs of"
            f" {study.label(second.family)} {second.size} (paper convention; {sizes})."
        )
    return sentences


def _unfinished(study: Study) -> list[str]:
    poor = [f"{run.name} ({run.status})" for run in study.runs if not run.finished]
    return [f"Not finished, and left out of every figure and law: {_join(poor)}."] if poor else []


def _interval(fit: Fit, name: str) -> str:
    if name not in fit.intervals:
        return ""
    low, high = fit.intervals[name]
    return f" [{low:.3f}, {high:.3f}]"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _join(parts) -> str:
    parts = list(parts)
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def duration(seconds: float) -> str:
    """Returns 42 s, 3 min 5 s or 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def scientific(value: float) -> str:
    """Returns 3.2×10¹⁵."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}×10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"

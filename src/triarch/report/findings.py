"""A study's main results in sentences, each computed from its tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from triarch.report.analysis import AXES, FamilyLaw, compared_families, gap_at, is_size
from triarch.report.study import FINISHED, OUTDATED, ScoredCorpus, StudyFolder, StudyRun
from triarch.scaling.fitting.result import Fit
from triarch.scaling.words import duration, join, scientific, short_number, signed

_AT_EQUAL = {"num_params": "size", "num_params_non_embedding": "size without the embedding"}
SIZE_UNITS = {"num_params": "parameters", "num_params_non_embedding": "parameters without the embedding"}
AXIS_UNITS = {"flops_paper": "FLOPs in the paper convention", "flops_train": "FLOPs in the train convention"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """A result in a sentence, and the sentences that say how it was got and how sure it is."""

    headline: str
    detail: str

    def __str__(self) -> str:
        return f"{self.headline} {self.detail}".strip()


def findings(study: StudyFolder, laws: Sequence[FamilyLaw]) -> list[Finding]:
    """Returns the study's main results, each computed from its tables; without laws those that need none."""
    if not laws:
        return [*_domain_shift(study), *_cost(study), *_unfinished(study)]
    return [
        *_best(study),
        *(sentence for axis in AXES for sentence in _gaps(study, laws, axis)),
        *_exponents(study, laws),
        *_domain_shift(study),
        *_cost(study),
        *_unfinished(study),
    ]


def _best(study: StudyFolder) -> list[Finding]:
    found: list[Finding] = []
    main = study.main_corpus
    if main is None:
        return found
    paired = compared_families(study)
    for corpus in study.corpora:
        largest = [run for family in paired if (run := _largest(study, family, corpus))]
        ranked = sorted(largest, key=lambda run: run.score(corpus)[0])
        if len(ranked) > 1:
            listed = join(f"{study.label(run.family)} {run.size} {_score_text(run, corpus)}" for run in ranked)
            detail = (
                f"The largest models score, on the same target tokens after the same prefix, {listed} nats per token."
            )
            found.append(Finding(_lead(study, ranked[0], ranked[1], corpus), detail))
    for family in study.families:
        run = _largest(study, family, main)
        if family not in paired and run and run.comparable_scoring() == "pseudo_likelihood":
            score, where = _score_text(run, main), main.words
            headline = f"{study.label(family)} {run.size} scores {score} nats per token {where} by pseudo-likelihood."
            detail = "Each token is guessed with both its sides in view, so this is not comparable with the others."
            found.append(Finding(headline, detail))
    return found


def _lead(study: StudyFolder, first: StudyRun, second: StudyRun, corpus: ScoredCorpus) -> str:
    (a, first_error), (b, second_error) = first.score(corpus), second.score(corpus)
    spread = math.hypot(first_error, second_error)
    names = f"{study.label(first.family)} and {study.label(second.family)}"
    if math.isfinite(spread) and b - a < 2 * spread:
        return f"No difference is shown {corpus.words} between {names}: {b - a:.3f} ± {spread:.3f} nats per token."
    unsure = "" if math.isfinite(spread) else ", of unknown standard error"
    return f"{study.label(first.family)} leads {corpus.words} by {b - a:.3f} nats per token{unsure}."


def _gaps(study: StudyFolder, laws: Sequence[FamilyLaw], axis: str) -> list[Finding]:
    """Returns how each later paired family stands to the first where both were measured."""
    families, main = compared_families(study), study.main_corpus
    chosen = {law.family: law for law in laws if law.axis == axis and law.corpus == main and law.family in families}
    found: list[Finding] = []
    for other in list(chosen.values())[1:]:
        first, second = next(iter(chosen.values())), other
        measured = gap_at(first, second)
        if measured is None or measured.at is None or main is None:
            continue
        x, gap = measured.at, measured.difference
        low, high = measured.interval or (None, None)
        interval = None if low is None or high is None else (low, high)
        if gap < 0:
            first, second, gap = second, first, -gap
            interval = interval and (-interval[1], -interval[0])
        a, b = study.label(first.family), study.label(second.family)
        what = _AT_EQUAL.get(axis, "compute")
        if interval and interval[0] <= 0:
            headline = f"At equal {what} the laws show no difference between {a} and {b}."
        else:
            headline = f"At equal {what} the laws put {a} {gap:.3f} nats per token below {b}."
        where = f"{short_number(x)} {SIZE_UNITS[axis]}" if is_size(axis) else f"{scientific(x)} {AXIS_UNITS[axis]}"
        sure = (
            f" ({first.fit.confidence:.0%} interval {signed(interval[0])} to {signed(interval[1])})" if interval else ""
        )
        detail = f"{_sentence(main)}, at {where}: {b} minus {a} is {gap:.3f}{sure}."
        found.append(Finding(headline, detail))
    return found


def _exponents(study: StudyFolder, laws: Sequence[FamilyLaw]) -> list[Finding]:
    main = study.main_corpus
    chosen = [law for law in laws if law.axis == "num_params" and law.corpus == main and law.fit]
    if main is None or not chosen:
        return []
    listed = join(
        f"{law.fit.parameters['alpha']:.3f}{_interval(law.fit, 'alpha')} for {study.label(law.family)}"
        for law in chosen
    )
    alphas = [law.fit.parameters["alpha"] for law in chosen]
    span = f"{min(alphas):.2f} to {max(alphas):.2f}" if len(alphas) > 1 else f"{alphas[0]:.2f}"
    detail = f"{_sentence(main)}, against parameters: {listed}"
    detail += f" ({chosen[0].fit.confidence:.0%} intervals)." if chosen[0].fit.intervals else "."
    if any(not law.fit.offset_fitted for law in chosen):
        detail += (
            f" From {min(len(law.x) for law in chosen)} sizes an irreducible loss cannot be told from the power: laws"
            " without an E below are pure power laws, whose exponents are not those of laws with an offset."
        )
    return [
        Finding(
            f"Loss falls with size as a power law with {'exponents' if len(alphas) > 1 else 'an exponent'} of {span}.",
            detail,
        )
    ]


def _domain_shift(study: StudyFolder) -> list[Finding]:
    found: list[Finding] = []
    main = study.main_corpus
    if main is None:
        return found
    for corpus in study.corpora:
        shifts = []
        for family in study.families if corpus.role == "out_of_domain" else ():
            run = _largest(study, family, corpus)
            if run and math.isfinite(run.score(main)[0]):
                shift = run.score(corpus)[0] - run.score(main)[0]
                shifts.append((shift, f"{signed(shift)} for {study.label(family)} {run.size}"))
        if shifts:
            low, high = min(shifts)[0], max(shifts)[0]
            span = signed(low) if len(shifts) == 1 else f"{signed(low)} to {signed(high)}"
            headline = f"Leaving the training domain for {corpus.name} costs {span} nats per token."
            detail = f"Largest models, against {main.name}: {join(text for _, text in shifts)}."
            found.append(Finding(headline, detail))
    return found


def _cost(study: StudyFolder) -> list[Finding]:
    runs = [run for run in study.runs if run.finished]
    flops = sum(run.numbers["flops_train"] for run in runs)
    seconds = sum(run.numbers["seconds"] for run in runs)
    headline = (
        f"{len(runs)} runs took {duration(seconds)} of training and {scientific(flops)} FLOPs (train convention)."
    )
    families = compared_families(study)
    if len(families) < 2:
        return [Finding(headline, "")]
    first, second = (study.of_family(family)[-1] for family in families[:2])
    ratio = first.numbers["flops_paper"] / second.numbers["flops_paper"]
    if ratio < 1:
        first, second, ratio = second, first, 1 / ratio
    sizes = (
        f"{short_number(first.numbers['num_params'])} against {short_number(second.numbers['num_params'])} parameters"
    )
    detail = (
        f"{study.label(first.family)} {first.size} spent {ratio:.2f} times the FLOPs of {study.label(second.family)}"
        f" {second.size} (paper convention; {sizes})."
    )
    return [Finding(headline, detail)]


def _unfinished(study: StudyFolder) -> list[Finding]:
    left_out = {
        "did not finish": [
            f"{run.name} ({run.status})" for run in study.runs if run.status not in (FINISHED, OUTDATED)
        ],
        "must be evaluated anew, for the study changed": [run.name for run in study.runs if run.status == OUTDATED],
    }
    return [
        Finding(f"{len(names)} run{'s' * (len(names) > 1)} {why}.", f"Left out of every figure and law: {join(names)}.")
        for why, names in left_out.items()
        if names
    ]


def _sentence(corpus: ScoredCorpus) -> str:
    return corpus.words[0].upper() + corpus.words[1:]


def _score_text(run: StudyRun, corpus: ScoredCorpus) -> str:
    value, error = run.score(corpus)
    return f"{value:.3f} ± {error:.3f}" if math.isfinite(error) else f"{value:.3f}"


def _largest(study: StudyFolder, family: str, corpus: ScoredCorpus | None) -> StudyRun | None:
    runs = [run for run in study.of_family(family) if math.isfinite(run.score(corpus)[0])]
    return runs[-1] if runs else None


def _interval(fit: Fit, name: str) -> str:
    if name not in fit.intervals:
        return ""
    low, high = fit.intervals[name]
    return f" [{low:.3f}, {high:.3f}]"

"""What `triarch fit` prints: estimates with intervals first, then checks, optima, comparisons and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triarch.scaling.checks.comparison import AxisComparison, Comparison, Difference
from triarch.scaling.laws.law import Law
from triarch.scaling.requests.outcome import Outcome
from triarch.scaling.words import short_number


def describe(outcome: Outcome) -> str:
    """Returns the whole outcome as lines to read."""
    blocks = []
    for part in outcome.parts:
        lines = [f"{part.label}:"] if part.label else []
        blocks.append("\n".join(lines + describe_result(part.result, outcome.request.law)))
    blocks += ["\n".join(describe_comparison(one)) for one in outcome.comparisons]
    notes = outcome.result.get("warnings", []) if outcome.comparisons else []
    blocks += ["\n".join(f"warning: {warning}" for warning in notes)] if notes else []
    return "\n\n".join(blocks)


def describe_result(result: Mapping[str, Any], law: Law) -> list[str]:
    """Returns one fit's JSON as lines."""
    lines = [f"{law.spelled()}, {result['num_points']} points"]
    profiled = result.get("profile_intervals", {})
    fixed = result.get("fixed", {})
    width = max(6, *(len(name) + 2 for name in result["parameters"]))
    for name, value in result["parameters"].items():
        interval = _interval(result["intervals"].get(name))
        likelihood = f"  likelihood {_interval(profiled[name])}" if name in profiled else ""
        held = "  held" if name in fixed else ""
        held += f" equal to {fixed[name]}" if isinstance(fixed.get(name), str) else ""
        lines.append(f"  {name:<{width}}{value:<12.6g}{'  ' + interval if interval else ''}{likelihood}{held}")
    if result["intervals"]:
        lines.append(
            f"  in brackets: {result['confidence']:.0%} intervals, {result['bootstraps']} bootstraps"
            + ("; of the profile likelihood" if profiled else "")
        )
    lines.append(_objective(result, law))
    lines += [f"  {line}" for line in law.summary(result)]
    lines += _checks(result) + _optima(result.get("optima_for_budgets", [])) + _laws(result.get("laws_compared", []))
    return lines + [f"warning: {warning}" for warning in result["warnings"]]


def describe_comparison(comparison: Comparison) -> list[str]:
    """Returns a comparison of two groups as lines."""
    how = f"{comparison.pairs} pairs resampled together" if comparison.pairs else "each resampled by itself"
    lines = [f"{comparison.second} against {comparison.first} ({how}); differences are {comparison.second}'s minus"
             f" {comparison.first}'s"]  # fmt: skip
    width = max([20, *(len(one.what) + 2 for one in comparison.parameters)])
    lines += [
        f"  {one.what:<{width}}{one.first:<11.5g} {one.second:<11.5g} {_difference(one)}"
        for one in comparison.parameters
    ]
    for one in comparison.gaps:
        lines.append(f"  loss at {one.what} = {_place(one):<8} {one.first:.4f}  {one.second:.4f}  {_difference(one)}")
    lines += [_setting(one) for one in comparison.settings]
    for axis in comparison.axes:
        lines += _axis(comparison, axis)
    return lines + [f"warning: {warning}" for warning in comparison.warnings]


def _axis(comparison: Comparison, axis: AxisComparison) -> list[str]:
    lines = [f"  at equal {axis.axis}:"]
    for one in axis.gaps:
        lines.append(f"    {one.at:<10.3g} loss {one.first:.4f}  {one.second:.4f}  {_difference(one)}")
    for one in axis.multipliers:
        lines.append(
            f"    loss {one.at:<8.4g} needs {one.first:.3g} and {one.second:.3g}: {one.difference:.3g} times"
            f" {_interval(one.interval)}"
        )
    meeting = axis.crossover
    ahead = (comparison.first, comparison.second)[meeting.ahead_below]
    if meeting.x is None:
        lines.append(f"    no crossover within reach: {ahead} is ahead throughout")
    else:
        where = "within" if meeting.measured else "outside"
        share = "" if meeting.share is None else f", {meeting.share:.0%} of resamples cross"
        lines.append(
            f"    crossover at {meeting.x:.3g} {_interval(meeting.interval)} ({where} what was measured{share});"
            f" {ahead} is ahead below it"
        )
    return lines


def _place(one: Difference) -> str:
    return "" if one.at is None else short_number(one.at)


def _setting(one: Difference) -> str:
    shown = "" if one.interval is None else " differs" if one.shown(1.0) else " no difference shown"
    values = f"{one.first:<10.4g} {one.second:<10.4g} {one.difference:.3g} times {_interval(one.interval)}"
    return f"  best {one.what} = {_place(one):<8} {values}{shown}"


def _difference(one: Difference) -> str:
    shown = "" if one.interval is None else " differs" if one.shown() else " no difference shown"
    return f"{one.difference:+.4g} {_interval(one.interval)}{shown}".rstrip()


def _interval(interval: Sequence[float | None] | None) -> str:
    if interval is None:
        return ""
    low, high = ("open" if end is None else f"{end:.6g}" for end in interval)
    return f"[{low}, {high}]"


def _objective(result: Mapping[str, Any], law: Law) -> str:
    if result.get("least_squares", law.least_squares):
        return f"  objective {result['objective']:.6g} (half the sum of squares)"
    return f"  objective {result['objective']:.7g} (sum of Huber losses, delta {result['huber_delta']:g})"


def _checks(result: Mapping[str, Any]) -> list[str]:
    lines = []
    # Differences of logarithms are shares of the value; others are in its own unit.
    relative = result.get("residuals", {}).get("of") == "log loss"

    def show(value: float, sign: str = "") -> str:
        return format(value, f"{sign}.3%" if relative else f"{sign}.4g")

    if "residuals" in result:
        found = result["residuals"]
        lines.append(
            f"  residuals of {found['of']}: root mean square {show(found['rms'])}, largest {show(found['largest'])}"
        )
    held = result.get("held_out")
    if held:
        lines.append(
            f"  held out: fitted up to {held['by']} = {held['largest_fitted']:.3g}, the {len(held['rows'])} larger rows"
            f" (up to {held['reach']:.2g} times) are missed by {show(held['rms'])} (mean {show(held['bias'], '+')};"
            f" where fitted {show(held['rms_fitted'])})"
        )
    return lines


def _optima(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        beyond = f", {row['beyond']:.2g} times the largest measured" if row["beyond"] > 1.001 else ""
        lines.append(
            f"  best for {row['flops']:.3g} FLOPs ({row['cost']}{beyond}): N {_with(row, 'params')},"
            f" D {_with(row, 'tokens')}, loss {_with(row, 'loss')}"
        )
    return lines


def _with(row: Mapping[str, Any], name: str) -> str:
    show = (lambda value: f"{value:.4g}") if name == "loss" else short_number
    interval = row[f"{name}_interval"]
    ends = f" [{show(interval[0])}, {show(interval[1])}]" if interval else ""
    return f"{show(row[name])}{ends}"


def _laws(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["  laws by their error on the largest runs:"] if rows else []
    for row in rows:
        if row["rms"] is None:
            lines.append(f"    {row['law']:<30} too few rows")
            continue
        behind = row["rms_behind_best"]
        text = "best" if behind is None else f"behind by [{behind[0]:.3%}, {behind[1]:.3%}]"
        lines.append(f"    {row['law']:<30} {row['rms']:.3%} (where fitted {row['rms_fitted']:.3%})  {text}")
    return lines

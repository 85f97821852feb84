"""Under which settings a run's checkpoint was made, told by its config.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triarch.training.record.segments import PHASE_STARTS


def settings_at(fields: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Returns what config.json holds as it was for the `step`-th update: model, objective and data of its phase.

    Of a run without phases that is what it holds; of what is damaged, too: whoever reads it says so.

    Args:
      fields: of the config.json.
      step: updates made; of step 0 what the first one was made under.
    """
    found: list[tuple[int, Mapping[str, Any]]] = []
    phases = _mappings(fields.get("phases"))
    for entry in _mappings(fields.get("earlier_segments")):
        if phases or entry.get("phase"):
            found.append((_begun(entry), entry))
    begun, starts = _begun(fields), fields.get(PHASE_STARTS)
    if not phases and found:
        found.append((begun, fields))
    for phase in phases:
        start = _at(starts, phase.get("name"))
        found.append((max(start, begun), phase))
    own = [entry for first, entry in found if first < max(step, 1)]
    if not own:
        return dict(fields)
    return {**fields, **{key: own[-1][key] for key in ("model", "objective", "data") if own[-1].get(key) is not None}}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _begun(fields: Mapping[str, Any]) -> int:
    """Returns the step at which a segment began."""
    return _at(fields.get("data_order"), "step")


def _at(steps: Any, name: Any) -> int:
    step = steps.get(name) if isinstance(steps, Mapping) and isinstance(name, str) else 0
    return step if isinstance(step, int) else 0

"""What a run recorded of itself, for those who get its parameters: data, tokens, losses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triarch.training.logs.metrics import FILE_NAME, read_lines
from triarch.training.record.config_json import read_json

# Of a logged line: how fast and how far it was computed says nothing of the model.
_MEASURED = ("loss", "accuracy")


def run_record(workdir: Path, step: int) -> dict[str, Any]:
    """Returns what an export keeps of a run: JSON values, without a path of this machine.

    Args:
      workdir: the run folder.
      step: of the parameters.

    Raises:
      UserError: config.json is damaged.
    """
    fields = read_json(workdir)
    data, found = fields.get("data") or {}, {name: fields.get(name) for name in ("batch_size", "optimizer", "seed")}
    lines = [line for line in read_lines(workdir / FILE_NAME) if line["step"] <= step]
    last = lines[-1] if lines else {}
    if fields.get("init_from"):
        found["init_from"] = Path(str(fields["init_from"])).name
    return found | {
        "data": _stores(data.get("store")),
        "tokens": _whole(last.get("tokens")) if last.get("step") == step else None,
        "metrics": _latest(lines),
    }


def _stores(store: Any) -> str | None:
    named = store.get("stores") if isinstance(store, Mapping) else [store] if store else []
    return ", ".join(Path(str(one)).name for one in named or []) or None


def _latest(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the last value of each measure that was logged."""
    found: dict[str, float] = {}
    for line in lines:
        for name, value in line.items():
            is_measure = name in _MEASURED or name.startswith("validation_") or "/" in name
            if is_measure and isinstance(value, int | float) and not isinstance(value, bool):
                found[name] = value
    return found


def _whole(value: Any) -> int | None:
    return round(value) if isinstance(value, int | float) else None

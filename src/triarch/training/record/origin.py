"""Where the parameters of a run's checkpoints come from, told by its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triarch import schema
from triarch.interchange import Origin
from triarch.interchange.manifest import TUNED_FROM
from triarch.schema import Anything, MapOf
from triarch.training.record.fingerprint import checkpoint_id


def run_origin(workdir: Path, fields: Mapping[str, Any], step: int) -> Origin:
    """Returns the origin of a run's parameters at a step.

    Args:
      workdir: the run folder.
      fields: of its config.json: objective, vocabulary, store_fingerprint; besides window and fingerprint.
      step: updates made.

    Raises:
      UserError: what the folder says of the model it began with is damaged.
    """
    source = {key: fields[key] for key in ("store_fingerprint", "window")} | {"run": workdir.absolute().name}
    source |= {"checkpoint": checkpoint_id(fields["fingerprint"], step)}
    source |= {"labels": fields["labels"]} if fields.get("labels") else {}
    path = workdir / f"{TUNED_FROM}.json"
    source |= {TUNED_FROM: schema.read(path, MapOf(Anything()))} if path.is_file() else {}
    return Origin(objective=fields["objective"], vocabulary=fields["vocabulary"], step=step, source=source)

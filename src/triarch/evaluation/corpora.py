"""What a model is evaluated on: corpora of one store or a folder of them, and the record of what made a loss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triarch.data.manifest import FILE_NAME
from triarch.data.store import TokenStore
from triarch.evaluation.held_out import Domain, Role
from triarch.evaluation.scoring import MEASURES
from triarch.evaluation.store_sums import Options
from triarch.evaluation.suites import open_suite


def open_corpus(folder: Path, role: Role, name: str | None = None, split: str | None = None) -> list[Domain]:
    """Opens a corpus: its store, or those of a folder of stores, SOURCE or SOURCE/DOMAIN.

    Args:
      folder: of the store or stores.
      role: whether the model was trained on such text.
      name: what the corpus is called; None for the task of its store, or the name of the folder of stores.
      split: to evaluate on; None leaves it to the options.

    Raises:
      UserError: there is no store, one is damaged, or something else is in a folder of them.
    """
    if not folder.is_dir() or (folder / FILE_NAME).exists() or not any(folder.iterdir()):
        store = TokenStore.open(folder)
        return [Domain(store, role, name or store.manifest.task, name or store.manifest.task, split)]
    return [
        Domain(one.store, role, name or folder.name, "/".join(dict.fromkeys((one.source, one.name))), split)
        for one in open_suite(folder)
    ]


def made_with(checkpoint: str | None, domains: Sequence[Domain], options: Options) -> dict[str, Any]:
    """Returns all that a model's losses depend on, as JSON has it: equal records, equal losses but for rounding.

    Args:
      checkpoint: identifies the parameters; None where that is not known.
      domains: in the order of the losses.
      options: what is scored.
    """
    record = {
        "checkpoint": checkpoint,
        "measures": MEASURES,
        "scoring": options.scoring,
        "max_windows": options.max_windows,
        "pseudo_positions": options.pseudo_positions,
        "seed": options.seed,
        "corpora": [
            {
                "corpus": domain.corpus,
                "domain": domain.name,
                "role": domain.role,
                "split": domain.split or options.split,
                "store_fingerprint": domain.store.manifest.fingerprint,
            }
            for domain in domains
        ],
    }
    return json.loads(json.dumps(record))

"""The FLAN collection of 2022 (arXiv 2301.13688) from its public dumps: submixtures, their rates and caps.

google-research/FLAN, flan/v2/run_example.py mixes five submixtures; inside each, four kinds of prompt (zero- or
few-shot, with or without options) or two come alike often, and tasks as often as they have examples, up to a cap. Caps
are of flan/v2/mixtures.py; that of natural instructions, which are one task there, has no effect. Inverted tasks
("_ii") of chains of thought and of dialogues come 0.3 times as often.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from triarch.errors import UserError, nearest
from triarch.prepare.corpora.instructions.corpus import Instructions

_ALL_STYLES = ("zs_opt", "fs_opt", "zs_noopt", "fs_noopt")
_WITH_OPTIONS = ("zs_opt", "fs_opt")


@dataclasses.dataclass(frozen=True)
class Submixture:
    """A part of the collection.

    Attributes:
      name: of it.
      rate: its share of all examples.
      styles: kinds of prompt, each as often.
      sources: what rows of the dumps call their collection, in lower case.
      cap: the most examples of a task by which it counts; None for no limit.
      inverted_share: of inverted tasks, against 1 of others.
    """

    name: str
    rate: float
    styles: tuple[str, ...]
    sources: tuple[str, ...]
    cap: int | None
    inverted_share: float = 1.0


SUBMIXTURES = (
    Submixture("flan2021", 0.40, _ALL_STYLES, ("flan2021", "flan"), 30_000),
    Submixture("t0", 0.32, _ALL_STYLES, ("p3", "t0"), 20_000),
    Submixture("niv2", 0.20, _WITH_OPTIONS, ("niv2", "naturalinstructionsv2"), None),
    Submixture("cot", 0.05, _WITH_OPTIONS, ("cot",), 100_000, 0.3),
    Submixture("dialog", 0.03, _WITH_OPTIONS, ("dialog",), 200_000, 0.3),
)
_NAME = re.compile(r"(?:^|[/_.-])(flan2021|flan|t0|niv2|cot|dialog)(?:_submix|_(?=zs|fs)|[/.-])", re.IGNORECASE)
_STYLE = re.compile(r"(zs|fs)_?(noopt|opt)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class FlanPart:
    """Rows of one submixture and one kind of prompt.

    Attributes:
      name: of both, as "cot_zs_opt".
      rate: its share of all examples.
      corpus: the rows.
    """

    name: str
    rate: float
    corpus: Instructions


def parts(paths: Sequence[str], folder: str, only: Sequence[str] = ()) -> tuple[list[FlanPart], list[str]]:
    """Returns the parts of the mixture that there are files for, and the names of the others.

    A file's path below its folder may say its submixture (`flan2021_submix_original/...`) and its kind of prompt too
    (`cot_zs_opt_train.jsonl.gz`); what it does not say the rows must (`_task_source`, `_template_type`).

    Args:
      paths: of all files.
      folder: in which they lie, of which names say nothing.
      only: names of submixtures to take; all when empty.

    Raises:
      UserError: no file is one of the collection; `only` names what it has not.
    """
    names = [one.name for one in SUBMIXTURES]
    for name in only:
        if name not in names:
            raise UserError(f"--submixture={name}: FLAN 2022 has {', '.join(names)}{nearest(name, names)}")
    named = [(path, _named(path.removeprefix(folder))) for path in paths]
    found, missing = [], []
    for one in SUBMIXTURES:
        if only and one.name not in only:
            continue
        for style in one.styles:
            own = tuple(path for path, (mix, kind) in named if mix in (None, one.name) and kind in (None, style))
            name = f"{one.name}_{style}"
            if not own:
                missing.append(name)
                continue
            corpus = Instructions(
                own, sources=one.sources, style=style, cap=one.cap, inverted_share=one.inverted_share
            )  # fmt: skip
            found.append(FlanPart(name, one.rate / len(one.styles), corpus))
    if not found:
        raise UserError(f"{folder}: no file of it is one of FLAN 2022: expected names as cot_zs_opt_train.jsonl.gz")
    return found, missing


def _named(path: str) -> tuple[str | None, str | None]:
    mix, style = _NAME.search(path), _STYLE.search(path)
    submixture = None if mix is None else mix[1].lower()
    kind = None if style is None else f"{style[1].lower()}_{style[2].lower()}"
    return "flan2021" if submixture == "flan" else submixture, kind

"""`triarch evaluate --suite`: one table of models, domains and averages."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from triarch.cli.outputs import check_folder
from triarch.cli.verbs.evaluate import LOSS_HEADER, LOSS_NOTE, loss_cells
from triarch.cli.views.model_tables import model_facts, model_names, write_table
from triarch.cli.views.text_table import aligned

if TYPE_CHECKING:
    from triarch.evaluation import Options
    from triarch.evaluation.suites import SuiteLoss
    from triarch.interchange import LoadedModel

TABLE = "suite.csv"


def run_suite(args: argparse.Namespace, options: Options) -> dict[str, Any]:
    """Evaluates every model on the suite, prints the table, and writes it if asked.

    Raises:
      UserError: the suite, a model or a store is missing or damaged, or their vocabularies differ.
    """
    from triarch.evaluation.suites import evaluate_suite, open_suite
    from triarch.interchange import Placement
    from triarch.loading import load

    suite = open_suite(args.suite)
    names = model_names(args.model)
    if args.output is not None:
        check_folder("output", args.output)
    models, rows = [], []
    for name, path in names.items():
        model = load(path, step=args.step, placement=Placement.all_devices())
        losses = evaluate_suite(model, suite, options, show_progress=True)
        facts = model_facts(name, model) | _forward_flops(model, max(d.store.manifest.window for d in suite))
        models.append(facts | {"path": str(path), "losses": [dataclasses.asdict(loss) for loss in losses]})
        rows += [facts | dataclasses.asdict(loss) for loss in losses]
        cells = [(*_label(loss), loss.scoring, *loss_cells(loss)) for loss in losses]
        print(aligned((name, "average", "scoring", *LOSS_HEADER), cells, words=3))
    print(LOSS_NOTE)
    if args.output is not None:
        write_table(args.output / TABLE, rows)
    return {"suite": str(args.suite), "split": args.split, "models": models}


def _label(loss: SuiteLoss) -> tuple[str, str]:
    parts = [part for part in (loss.source, loss.domain) if part]
    return "/".join(dict.fromkeys(parts)) or "(all)", loss.average


def _forward_flops(model: LoadedModel, window: int) -> dict[str, float]:
    """Returns the FLOPs of reading one window once: half in the encoder, half in the decoder where there are both."""
    config = model.config
    both = config.architecture == "encoder-decoder"
    lengths = (window - window // 2, window // 2) if both else (window, window)
    # A training step is three forward passes.
    return {
        "forward_flops_paper": config.flops(*lengths, "paper"),
        "forward_flops_train": config.flops(*lengths, "train") / 3,
    }

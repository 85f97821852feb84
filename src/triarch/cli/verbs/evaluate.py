"""`triarch evaluate`: held-out loss of runs and exports."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli import steps
from triarch.cli.evaluating.few_shot import NAME_SOME, add_task_arguments, asks_for_tasks, refuse_task_flags, run_tasks
from triarch.cli.evaluating.retrieval import (
    add_retrieval_arguments,
    asks_for_retrieval,
    refuse_retrieval_flags,
    run_retrieval,
)
from triarch.cli.processes import add_process_arguments, joined
from triarch.cli.seqio.evaluation import add_seqio_arguments, refuse_seqio_flags, run_seqio_tasks
from triarch.cli.seqio.task_flags import COMMON, add_common_arguments, refuse_flags
from triarch.cli.tuning.ranking import add_ranking_arguments, run_ranking
from triarch.cli.views.text_table import aligned, decimals
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.evaluation import Domain, Evaluation, Loss, Options
    from triarch.evaluation.held_out import Role
    from triarch.interchange import LoadedModel

HELP = (
    "held-out loss of a run or an export on token stores, in nats/token, bits/byte and perplexity;\n"
    "with --suite on many domains at once, with averages over domains and over sources;\n"
    "with --tasks or --task_suite zero- and few-shot tasks of lm-evaluation-harness, local files included;\n"
    "with --rank_file rank classification on questions of your own, by task and cluster;\n"
    "with --seqio_task SeqIO tasks of --module, with their own metrics;\n"
    "with --classification how well a classifier tells the labels of a store;\n"
    "with --retrieval a collection in BEIR's layout, with --similarity pairs of texts with scores"
)
EXAMPLE = (
    "triarch evaluate --model=runs/redllm --in_domain=stores/code --out_of_domain=stores/prose --json=loss.json\n"
    "triarch evaluate --model=runs/redllm --model=runs/decllm --suite=stores/paloma --output=study/analysis\n"
    "triarch evaluate --model=runs/redllm --tasks=lambada,copa --task_data=data/eval --num_fewshot=2 --json=few.json\n"
    "triarch evaluate --model=runs/redllm --task_file=exam.csv --question=question --choices=a,b,c,d --answer=answer\n"
    "triarch evaluate --model=runs/redllm --model=runs/tuned --rank_file=held_out.jsonl --output=results\n"
    "triarch evaluate --model=runs/sst2 --classification=stores/sst2 --split=test --json=sst2.json\n"
    "triarch evaluate --model=runs/redllm --module=my_tasks --seqio_task=glue_cola,squad --output=results\n"
    "triarch evaluate --model=exports/minilm --retrieval=data/cranfield --baseline=bm25 --json=cranfield.json\n"
    "triarch evaluate --model=runs/redllm --model=runs/decllm --step=all --task_suite=local --task_data=data/eval "
    "--output=study/analysis"
)

_ALL = "all"
_STORE_FLAGS = {"split": "validation", "scoring": None, "max_windows": "256", "pseudo_positions": "16", "seed": 0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch evaluate`."""
    add = parser.add_argument
    add(
        "--model", required=True, action="append", type=Path, metavar="PATH",
        help="a run or an export; repeatable with --suite and with tasks",
    )  # fmt: skip
    add(
        "--in_domain", action="append", default=[], metavar="[NAME=]STORE[@SPLIT]",
        help="text of the trained-on kind: a store, or a folder of stores (SOURCE or SOURCE/DOMAIN); NAME is what it "
        "is called, SPLIT goes before --split; repeatable",
    )  # fmt: skip
    add(
        "--out_of_domain", action="append", default=[], metavar="[NAME=]STORE[@SPLIT]",
        help="text of another kind, likewise; repeatable",
    )  # fmt: skip
    add(
        "--suite", type=Path, metavar="FOLDER",
        help="of token stores, SOURCE/DOMAIN or SOURCE; averages: micro (every token counts alike), macro (every "
        "domain), macro_sources (every source)",
    )  # fmt: skip
    add(
        "--classification", metavar="STORE[@SPLIT]",
        help="a labelled store: accuracy, F1, Matthews' coefficient, Pearson's and Spearman's correlation",
    )  # fmt: skip
    add("--output", type=Path, metavar="FOLDER", help="of a suite's table, suite.csv, or that of tasks, tasks.csv")
    add("--split", help="of every store (default: %(default)s)")
    add(
        "--scoring",
        help="paired (the second half of a window, or of a packed document, given the first; a pair's targets given "
        "its inputs; for an encoder their pseudo-likelihood), native (the model's own objective) or paired,native "
        "(default: both, native where the objective is known and reads the store's layout)",
    )
    add(
        "--max_windows",
        help="windows to score, a random sample of the split, the same for every model; or 'all' "
        "(default: %(default)s)",
    )
    add("--batch_size", type=int, default=32, help="rows computed at once (default: %(default)s)")
    add("--pseudo_positions", help="tokens of a window an encoder is scored on, or 'all' (default: 16)")
    add("--seed", type=int, help="of the windows and tokens drawn, and of masking (default: %(default)s)")
    add(
        "--step",
        help=f"{steps.HELP}; with tasks also several, as 100,200, or 'all'",
    )
    parser.set_defaults(**_STORE_FLAGS)
    add_common_arguments(parser)
    add_task_arguments(parser)
    add_ranking_arguments(parser)
    add_seqio_arguments(parser)
    add_retrieval_arguments(parser)
    add_process_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Evaluates, and prints a table, in the first of several processes.

    Raises:
      UserError: the model or a store is missing or damaged, their vocabularies differ, or a flag is out of range.
    """
    stores = [*args.in_domain, *args.out_of_domain]
    if args.rank_file:
        if stores or args.suite is not None or args.seqio_task is not None or asks_for_tasks(args):
            raise UserError("--rank_file is evaluated by itself: give it without stores, suites and tasks")
        return run_ranking(args)
    if asks_for_retrieval(args):
        _refuse_all_others(args, stores)
        return run_retrieval(args)
    refuse_retrieval_flags(args)
    if args.classification is not None:
        return _run_classification(args, stores)
    if args.seqio_task is not None or asks_for_tasks(args):
        if stores or args.suite is not None:
            raise UserError(
                "tasks are evaluated by themselves: give them without --in_domain, --out_of_domain, --suite"
            )
        for name, default in _STORE_FLAGS.items():
            if getattr(args, name) != default:
                raise UserError(f"--{name} is for stores: tasks have no use for it")
        if args.seqio_task is None:
            refuse_seqio_flags(args)
            return run_tasks(args)
        if asks_for_tasks(args):
            raise UserError("--seqio_task and tasks of lm-evaluation-harness: one at a time")
        refuse_task_flags(args)
        return run_seqio_tasks(args)
    refuse_seqio_flags(args)
    refuse_task_flags(args)
    refuse_flags(args, COMMON, "tasks", NAME_SOME)
    if not stores and args.suite is None:
        raise UserError(
            "no store to evaluate on: give --in_domain=STORE, --out_of_domain=STORE or --suite=FOLDER, or --tasks"
        )
    if args.suite is not None:
        if stores:
            raise UserError("--suite has stores of its own: give it without --in_domain and --out_of_domain")
    elif len(args.model) > 1 or args.output is not None:
        raise UserError(f"{'--output' if args.output else 'more than one --model'} is for --suite and for tasks")
    args.step = _step(args.step)
    options = _options(args)
    with joined(args, "evaluate") as is_first:
        if args.suite is None:
            result = _run_stores(args, options)
        else:
            from triarch.cli.evaluating.suite import run_suite

            args.output = args.output if is_first else None
            result = run_suite(args, options)
    return result if is_first else None


def _run_classification(args: argparse.Namespace, stores: Sequence[str]) -> dict[str, Any] | None:
    refuse_seqio_flags(args)
    refuse_task_flags(args)
    refuse_flags(args, COMMON, "tasks", NAME_SOME)
    if stores or args.suite is not None or args.output is not None or len(args.model) > 1:
        raise UserError(
            "--classification goes with one --model, and without --in_domain, --out_of_domain, --suite, --output"
        )
    for name, default in _STORE_FLAGS.items():
        if name != "split" and getattr(args, name) != default:
            raise UserError(f"--{name} is for held-out loss: --classification has no use for it")
    if args.batch_size < 1:
        raise UserError(f"--batch_size={args.batch_size}: expected at least 1")
    args.step = _step(args.step)
    with joined(args, "evaluate") as is_first:
        from triarch.data.store import TokenStore
        from triarch.evaluation.classification import classify
        from triarch.interchange import Placement
        from triarch.loading import load

        folder, _, _, split = _parsed(args.classification, "in_domain")
        store, (path,) = TokenStore.open(folder), args.model
        model = load(path, step=args.step, placement=Placement.all_devices())
        found = classify(model, store, split or args.split, args.batch_size, show_progress=True)
        shown = {name: value for name, value in dataclasses.asdict(found).items() if isinstance(value, float)}
        cells = (
            store.manifest.task,
            found.split,
            *(f"{value:.4f}" for value in shown.values()),
            f"{found.num_labels:,}",
        )
        print(aligned(("store", "split", *shown, "labels"), [cells], words=2))
        result = {"model": str(path), "step": model.origin.step, "store": str(folder), **dataclasses.asdict(found)}
    return result if is_first else None


def _refuse_all_others(args: argparse.Namespace, stores: Sequence[str]) -> None:
    """Raises UserError for flags of stores and tasks, given with --retrieval or --similarity."""
    if stores or args.suite is not None or args.seqio_task is not None or asks_for_tasks(args):
        raise UserError("--retrieval and --similarity are evaluated by themselves: give no stores and no tasks")
    for name, default in _STORE_FLAGS.items():
        if getattr(args, name) != default:
            raise UserError(f"--{name} is for stores: --retrieval and --similarity have no use for it")
    refuse_seqio_flags(args)
    refuse_task_flags(args, but=("max_length",))
    refuse_flags(args, (*COMMON, "output"), "stores and tasks", "--retrieval and --similarity have no use for it")


def _run_stores(args: argparse.Namespace, options: Options) -> dict[str, Any]:
    from triarch.evaluation import evaluate, made_with
    from triarch.interchange import Placement
    from triarch.loading import load

    domains = _open(args.in_domain, "in_domain") + _open(args.out_of_domain, "out_of_domain")
    (path,) = args.model
    model = load(path, step=args.step, placement=Placement.all_devices())
    evaluations = evaluate(model, domains, options, show_progress=True)
    rows = [(_domain_cell(one), one.role, one.split, one.scoring, *loss_cells(one)) for one in evaluations]
    print(aligned(("domain", "role", "split", "scoring", *LOSS_HEADER), rows, words=4), LOSS_NOTE, sep="\n")
    for note in _notes(model, domains):
        print(note)
    return {
        "model": str(path),
        "architecture": model.config.architecture,
        "step": model.origin.step,
        "split": args.split,
        "made_with": made_with(_checkpoint(path, model.origin.step), domains, options),
        "evaluations": [dataclasses.asdict(evaluation) for evaluation in evaluations],
    }


LOSS_HEADER = (
    "nats/token", "standard error", "split error", "bits/byte", "perplexity", "tokens", "windows", "share", "documents",
)  # fmt: skip
# What the two errors are of, below every table.
LOSS_NOTE = (
    "standard error: as the loss on such text, over documents; split error: as that on the whole split, of which this "
    "share of the windows was scored"
)


def loss_cells(loss: Loss) -> tuple[str, ...]:
    """Returns a loss as the cells of a table under LOSS_HEADER."""
    losses = (loss.nats_per_token, loss.standard_error, loss.split_error, loss.bits_per_byte)
    perplexity = perplexity_cell(loss.nats_per_token, loss.perplexity)
    counts = (f"{loss.num_tokens:,}", f"{loss.num_windows:,}", f"{loss.share:.1%}", f"{loss.num_documents:,}")
    return (*map(decimals, losses), perplexity, *counts)


def perplexity_cell(nats_per_token: float, perplexity: float | None) -> str:
    """Returns a perplexity for a table; it may be beyond what a number holds."""
    if perplexity is None:
        return "-" if math.isnan(nats_per_token) else "> 1e308"
    return f"{perplexity:.2f}" if perplexity < 1e9 else f"{perplexity:.2e}"


def _options(args: argparse.Namespace) -> Options:
    max_windows = _count("max_windows", args.max_windows)
    pseudo_positions = _count("pseudo_positions", args.pseudo_positions)
    from triarch.evaluation import Options

    scoring = None if args.scoring is None else args.scoring.split(",")
    options = Options(scoring, args.split, max_windows, args.batch_size, pseudo_positions, args.seed)
    options.check()
    return options


def _open(corpora: Sequence[str], role: Role) -> list[Domain]:
    from triarch.evaluation import open_corpus

    return [domain for corpus in corpora for domain in open_corpus(*_parsed(corpus, role))]


def _parsed(corpus: str, role: Role) -> tuple[Path, Role, str | None, str | None]:
    """Returns folder, role, name and split of [NAME=]STORE[@SPLIT]; a path that is there means itself."""
    name = split = None
    if not Path(corpus).exists() and (found := re.fullmatch(r"([^=/]+)=(.+)", corpus)):
        name, corpus = found.groups()
    if not Path(corpus).exists() and (found := re.fullmatch(r"(.+)@([^@/]+)", corpus)):
        corpus, split = found.groups()
    return Path(corpus), role, name, split


def _checkpoint(path: Path, step: int | None) -> str | None:
    """Returns what identifies a run's checkpoint; None for an export."""
    from triarch.training.record.config_json import read_json
    from triarch.training.record.fingerprint import CONFIG_JSON, checkpoint_id, config_fingerprint

    if step is None or not (path / CONFIG_JSON).is_file():
        return None
    return checkpoint_id(config_fingerprint(read_json(path)), step)


def _domain_cell(evaluation: Evaluation) -> str:
    return "/".join(dict.fromkeys((evaluation.corpus, evaluation.domain)))


def _notes(model: LoadedModel, domains: Sequence[Domain]) -> list[str]:
    sizes = {domain.store.manifest.vocabulary.size for domain in domains}
    rows = model.config.vocab_size
    return [f"the model has {rows:,} ids, the stores {size:,}: the rest are padding" for size in sizes if size < rows]


def _step(text: str | None) -> Any:
    if text is None or text == steps.BEST:
        return text
    if not text.isdecimal():
        raise UserError(f"--step={text}: expected the number of a checkpoint; several of them go with tasks only")
    return int(text)


def _count(name: str, text: str) -> int | None:
    if text == _ALL:
        return None
    if not text.isdecimal():
        raise UserError(f"--{name}={text}: expected a number or '{_ALL}'")
    return int(text)

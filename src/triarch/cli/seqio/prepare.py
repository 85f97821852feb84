"""`triarch prepare` of SeqIO tasks and mixtures of the user's own: their flags, their stores, a mixture's gin file."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli.modules import import_modules
from triarch.cli.seqio.tensorflow_quiet import import_seqio
from triarch.errors import UserError, nearest

if TYPE_CHECKING:
    import seqio

    from triarch.data.store import TokenStore
    from triarch.tasks.any_task import TaskExamples

_SIDES = ("inputs", "targets")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that are for SeqIO tasks alone."""
    add = parser.add_argument_group("SeqIO tasks and mixtures of your own (see --module)").add_argument
    add(
        "--split",
        action="append",
        default=[],
        metavar="SPLIT",
        help="of the task; repeatable (default: train and validation, those that it has)",
    )
    add(
        "--sequence_length",
        metavar="inputs:N,targets:M",
        help="T5X's TASK_FEATURE_LENGTHS: what preprocessors are told, and what features are cut to (default: "
        "--max_inputs and --max_targets in the layouts of pairs)",
    )
    add("--max_examples", type=int, metavar="N", help="of each split, the first N (default: all)")
    add(
        "--num_epochs",
        type=int,
        default=1,
        metavar="N",
        help="go through the source N times, each with other random choices of the preprocessors; a run reads one of "
        "these passes in each epoch (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of preprocessors that draw at random (default: %(default)s)")
    add(
        "--shards",
        type=int,
        metavar="N",
        help="read each split as N of SeqIO's shards (seqio.ShardInfo), by turns, in --workers processes; 1: in the "
        "order that get_dataset has (default: where preprocessing runs in Python, those that the source has, at most "
        "16; else 1)",
    )
    add(
        "--seqio_cache_dir",
        action="append",
        default=[],
        metavar="FOLDER",
        help="folder that seqio_cache_tasks wrote to: tasks that lie there are read from it; repeatable",
    )


def prepare_provider(args: argparse.Namespace, provider: seqio.Task | seqio.Mixture) -> dict[str, Any]:
    """Writes the store of a task, or the stores of a mixture and its gin file; prints what they hold.

    Raises:
      UserError: see `TaskExamples` and `prepare_examples`; flags that cannot be.
    """
    import seqio

    for folder in args.seqio_cache_dir:
        if not Path(folder).is_dir() and "://" not in folder:
            raise UserError(f"--seqio_cache_dir={folder}: no such folder")
    _set_folders(args.data_dir, args.seqio_cache_dir)
    for name in ("max_examples", "num_epochs", "shards", "workers"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name}={value}: expected at least 1")
    if isinstance(provider, seqio.Mixture):
        return _prepare_mixture(args, provider)
    start = time.monotonic()
    store = _prepare(args, provider, args.output)
    return {
        "store": str(store.path),
        "seconds": time.monotonic() - start,
        "manifest": dataclasses.asdict(store.manifest),
    }


def _set_folders(data_dir: str | None, cache_dirs: Sequence[str]) -> None:
    import seqio

    if data_dir is not None:
        seqio.set_tfds_data_dir_override(data_dir)
    seqio.add_global_cache_dirs(cache_dirs)


def _begin_process(modules: Sequence[str], data_dir: str | None, cache_dirs: Sequence[str]) -> None:
    """Makes the user's tasks known in a process that reads shards, as they are in this one."""
    import_seqio()
    import_modules(modules)
    _set_folders(data_dir, cache_dirs)


def _prepare(args: argparse.Namespace, task: seqio.Task, output: Path, keep: bool = False) -> TokenStore:
    """Writes and shows the store of a task; with `keep`, one that is there already and is the same stays."""
    from triarch.cli.views.store_summary import summary
    from triarch.prepare.examples import job_of, prepare_examples

    start = time.monotonic()
    layout = args.layout or ("pairs" if "inputs" in task.output_features else "windows")
    examples, window = _examples(args, task, layout)
    store = _same_store(output, job_of(examples, layout, window)) if keep else None
    if store is None:
        store = prepare_examples(examples, output, layout, window, args.overwrite, show_progress=True)
        print(*summary(store), f"  in {time.monotonic() - start:.1f} s", sep="\n")
    else:
        print(*summary(store), "  was there already", sep="\n")
    if store.manifest.passes:
        print(f"  {store.manifest.passes} passes over the task lie one after another: a run reads one in each epoch")
    return store


def _examples(args: argparse.Namespace, task: seqio.Task, layout: str) -> tuple[TaskExamples, int]:
    """Returns the examples of a task, and how many tokens a window is to have."""
    from triarch.prepare.layouts import OF_PAIRS
    from triarch.tasks.any_task import TaskExamples, TaskOptions, takes_sequence_length
    from triarch.tasks.reading import Processes
    from triarch.tokenizers import ExtraIds

    lengths = _sequence_length(args.sequence_length)
    if unknown := lengths.keys() - task.output_features.keys() - set(_SIDES):
        name = min(unknown)
        raise UserError(f"--sequence_length: {task.name} has no {name}{nearest(name, _SIDES)}")
    window = args.window if args.window is not None else lengths.get("targets", 512)
    if layout in OF_PAIRS and not lengths:
        lengths = {"inputs": args.max_inputs, "targets": args.max_targets}
    elif not lengths and "inputs" not in task.output_features and takes_sequence_length(task):
        lengths = {"targets": window}
    options = TaskOptions(
        splits=tuple(args.split),
        sequence_length=lengths,
        seed=args.seed,
        num_epochs=args.num_epochs,
        max_examples=args.max_examples,
        extra=ExtraIds(args.add_mask, args.add_modes, args.add_sentinels),
        shards=args.shards,
    )
    begin = functools.partial(_begin_process, tuple(args.module), args.data_dir, tuple(args.seqio_cache_dir))
    processes = Processes(args.workers or len(os.sched_getaffinity(0)), begin)
    return TaskExamples(task, options, processes), window


def _sequence_length(text: str | None) -> dict[str, int]:
    """Returns {"inputs": N, "targets": M} of "inputs:N,targets:M"."""
    found: dict[str, int] = {}
    for part in text.split(",") if text is not None else ():
        name, _, number = part.strip().partition(":")
        if not number.strip().isascii() or not number.strip().isdecimal() or int(number) < 1 or name in found:
            raise UserError(f"--sequence_length={text}: expected inputs:N,targets:M, such as inputs:512,targets:128")
        found[name] = int(number)
    return found


def _same_store(output: Path, job: str) -> TokenStore | None:
    """Returns the store at `output` if it is that of `job`."""
    from triarch.data.manifest import FILE_NAME
    from triarch.data.store import TokenStore

    if not (output / FILE_NAME).is_file():
        return None
    store = TokenStore.open(output)
    return store if store.manifest.source.get("job") == job else None


def _prepare_mixture(args: argparse.Namespace, mixture: seqio.Mixture) -> dict[str, Any]:
    from triarch.files import write_whole
    from triarch.tasks.mixtures import rates

    start = time.monotonic()
    if (args.output / "manifest.json").is_file():
        raise UserError(f"{args.output}: is a store; a mixture has a store for each task: choose another --output")
    args.output.mkdir(parents=True, exist_ok=True)
    shares = rates(mixture)
    used = [(task, share) for task, share in shares if share > 0]
    print(f"mixture {mixture.name}: {len(used)} tasks")
    for task in mixture.tasks:
        if task not in [one for one, _ in used]:
            why = "its rate is 0" if "train" in task.splits else "it has no split 'train'"
            print(f"  without {task.name}: {why}")
    stores = [_prepare(args, task, args.output / task.name, keep=True) for task, _ in used]
    path = args.output / f"{mixture.name}.gin"
    text = mixture_gin(mixture.name, stores, [share for _, share in used])
    write_whole(path, text)
    print(f"{path}: reads the stores at the mixture's rates: triarch train --gin_file={path} ...")
    return {
        "mixture": mixture.name,
        "gin_file": str(path),
        "stores": {str(store.path): dataclasses.asdict(store.manifest) for store in stores},
        "rates": {task.name: share for task, share in used},
        "seconds": time.monotonic() - start,
    }


def mixture_gin(
    name: str, stores: Sequence[TokenStore], shares: Sequence[float], kind: str = "The SeqIO mixture"
) -> str:
    """Returns the gin text that mixes stores so that examples of their tasks come by these shares.

    Rates count examples. A run counts rows, which may hold several examples of a packed store, or a part of one
    in windows: the weights make up for that.
    """
    from triarch.cli.gin.files import render
    from triarch.data.mixture import MixturePhase, StoreMixture

    splits = [store.manifest.splits["train"] for store in stores]
    weights = [share * split.examples / split.documents for share, split in zip(shares, splits, strict=True)]
    mixture = StoreMixture(
        tuple(str(store.path) for store in stores), (MixturePhase(weights=tuple(w / sum(weights) for w in weights)),)
    )
    manifest = stores[0].manifest
    lines = [
        f"# {kind} {name}: an example comes from a task with the share of its rate.",
        "RunConfig.data = @DataConfig()",
        f"DataConfig.window = {manifest.window}",
        "DataConfig.store = @StoreMixture()",
    ]
    if manifest.lengths is not None:
        lines += ["RunConfig.objective = @Supervised()"]
        lines += [f"Supervised.{side}_length = {manifest.lengths[side]}" for side in _SIDES]
    return "\n".join([*lines, render(mixture)])

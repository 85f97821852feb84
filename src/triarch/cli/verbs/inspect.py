"""`triarch inspect`: what a token store or a mixture holds, what an objective makes of it, and what a run is fed."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rich.console

from triarch.cli.gin.files import add_gin_arguments, build_field, parse
from triarch.cli.views import example_view
from triarch.cli.views.console import OutputConsole
from triarch.cli.views.inspect_batch import ARCHITECTURES, phase_lines, show_batch
from triarch.cli.views.provenance_view import origins, shown
from triarch.data.manifest import FILE_NAME as MANIFEST
from triarch.data.manifest import TOKEN_BYTES
from triarch.data.mixture import MixturePhase, StoreMixture
from triarch.data.token_bytes import text_starts
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.data.store import TokenStore
    from triarch.tokenizers import Tokenizer

HELP = (
    "show what a token store holds: counts, vocabulary, a few examples as text and where they come from; "
    "with --gin_file, what a model is fed: rows of a batch, in colour, of a store or of the stores that gin names; of "
    "a run folder, what the run was fed at a step, over all its segments"
)
EXAMPLE = (
    "triarch inspect stores/code --split=validation --examples=2\n"
    "triarch inspect stores/code --check\n"
    "triarch inspect stores/code --gin_file=objectives/span_corruption.gin --architecture=decoder-only\n"
    "triarch inspect runs/first --step=100"
)

# Of a store of which a disk has eaten all, a page of lines says enough.
_MOST_FAULTS = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch inspect`."""
    add = parser.add_argument
    add("store", type=Path, nargs="?", help="folder of a store or a run (default: DataConfig.store of --gin_file)")
    add("--split", help="split of the examples shown (default: the first)")
    add("--examples", type=int, default=2, help="examples or rows to show (default: %(default)s)")
    add("--first", type=int, default=0, help="index of the first example shown (default: %(default)s)")
    add("--check", action="store_true", help="read every record, and name those that are damaged")
    add_gin_arguments(parser)
    add(
        "--architecture",
        choices=ARCHITECTURES,
        help="with --gin_file: whose features to show (default: the model's, or the first that the objective trains)",
    )
    add("--step", type=int, default=0, help="of a run or --gin_file: the batch to show (default: %(default)s)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prints the stores' manifests, and some examples or rows of a batch, decoded.

    Raises:
      UserError: there is no whole store, no such split or example, or the objective does not fit.
    """
    from triarch.cli.views.store_summary import summary
    from triarch.data.store import TokenStore
    from triarch.tokenizers import load_tokenizer

    is_run = args.store is not None and _is_run(args.store)
    if args.gin_bindings and not args.gin_file and not is_run:
        raise UserError("--gin.NAME=VALUE changes a gin file: give one with --gin_file")
    if args.examples < 0:
        raise UserError(f"--examples={args.examples}: expected 0 or more")
    if is_run:
        return _run_of(args)
    if args.gin_file:
        _refuse_continued(args.gin_file)
        parse(args.gin_file, args.gin_bindings)
    folders, phases = _chosen(args)
    stores = [TokenStore.open(folder) for folder in folders]
    for store in stores:
        print(*summary(store), sep="\n")
    if args.check:
        _check(stores)
    name = args.split or next(iter(stores[0].manifest.splits))
    tokenizer = load_tokenizer(stores[0])
    console = OutputConsole(highlight=False)
    result: dict[str, Any] = {"store": str(stores[0].path), "manifest": dataclasses.asdict(stores[0].manifest)}
    if len(stores) > 1:
        print(*phase_lines(stores, phases, name), sep="\n")
        manifests = {str(store.path): dataclasses.asdict(store.manifest) for store in stores}
        result = {"stores": manifests, "phases": [dataclasses.asdict(phase) for phase in phases]}
    if args.gin_file:
        return result | show_batch(args, stores, phases, name, tokenizer, console)
    return result | {"examples": _show_examples(args, stores[0], name, tokenizer, console)}


def _is_run(folder: Path) -> bool:
    if (folder / MANIFEST).exists() or not folder.is_dir():
        return False  # Said first, for a store is shown without importing anything of training.
    from triarch.training.record.fingerprint import CONFIG_JSON

    return (folder / CONFIG_JSON).is_file()


def _run_of(args: argparse.Namespace) -> dict[str, Any]:
    """Prints the stores of a run's segment, and what the run was or will be fed at a step of it."""
    from triarch.cli.gin.run_config import segments_of
    from triarch.cli.views.inspect_batch import segment_at, show_run
    from triarch.cli.views.store_summary import summary
    from triarch.tokenizers import load_tokenizer

    for name in ("split", "architecture"):
        if getattr(args, name) is not None:
            raise UserError(f"--{name}: {args.store} is a run, which has its own")
    segments = segments_of(args.store, args.gin_file, args.gin_bindings)
    stores = segment_at(segments, max(args.step, 0)).stores
    for store in stores:
        print(*summary(store), sep="\n")
    if args.check:
        _check(stores)
    shown = show_run(args, segments, load_tokenizer(stores[0]), OutputConsole(highlight=False))
    return {"run": str(args.store), "stores": {str(s.path): dataclasses.asdict(s.manifest) for s in stores}} | shown


def _refuse_continued(files: Sequence[str]) -> None:
    """Raises UserError for the gin text of a run of several segments, which does not say what each of them reads."""
    from triarch.training.record.fingerprint import CONFIG_JSON, CONFIG_TEXT
    from triarch.training.record.segments import read_earlier

    for file in map(Path, files):
        if file.name == CONFIG_TEXT and (file.parent / CONFIG_JSON).is_file() and read_earlier(file.parent):
            raise UserError(
                f"{file}: the run was trained on under another config: triarch inspect {file.parent} shows its batches"
            )


def _check(stores: Sequence[TokenStore]) -> None:
    """Raises UserError, naming the first damaged record, after naming all on stderr."""
    from triarch.data.checking import find_damage
    from triarch.progress import Progress

    found = []
    with Progress(show=True) as progress:
        for store in stores:
            examples = sum(split.examples for split in store.manifest.splits.values())
            progress.start(f"check {store.path}", examples)
            faults = itertools.chain(find_damage(store, progress.advance), _vocabulary_faults(store))
            found += itertools.islice(faults, _MOST_FAULTS - len(found))
    if found:
        more = f" (and {len(found) - 1} more, listed above)" if len(found) > 1 else ""
        for fault in found[1:]:
            print(f"triarch inspect: {fault}", file=sys.stderr)
        raise UserError(f"{found[0]}{more}")
    print("  checked: every record is whole")


def _vocabulary_faults(store: TokenStore) -> Iterator[str]:
    """Yields what is wrong with a store's vocabulary, and with what it says of the bytes of each token."""
    from triarch.tokenizers import load_tokenizer

    try:
        counts = load_tokenizer(store).token_bytes
    except UserError as error:
        yield str(error)
        return
    stored = store.token_bytes
    # Older stores do not tell a text's first tokens apart.
    known = [counts.first, counts.own]
    if not np.array_equal(stored.own, counts.own) or not any(np.array_equal(stored.first, one) for one in known):
        yield f"{store.path / TOKEN_BYTES}: not the bytes of the vocabulary's tokens; prepare the store again"


def _chosen(args: argparse.Namespace) -> tuple[list[Path], tuple[MixturePhase, ...]]:
    """Returns the stores' folders, and the phases in which they are mixed."""
    if args.store is not None:
        return [args.store], (MixturePhase(),)
    chosen = build_field("DataConfig.store") if args.gin_file else None
    if chosen is None:
        raise UserError("name the folder of a store, or give a --gin_file that sets DataConfig.store")
    if isinstance(chosen, StoreMixture):
        chosen.validate()
        return [Path(folder) for folder in chosen.stores], chosen.phases
    return [Path(chosen)], (MixturePhase(),)


def _show_examples(
    args: argparse.Namespace, store: TokenStore, name: str, tokenizer: Tokenizer, console: rich.console.Console
) -> list[dict[str, Any]]:
    examples = _examples(store, name, args.first, args.examples)
    told = origins(store, name, [index for index, _ in examples])
    found = []
    for number, (index, example) in enumerate(examples):
        tokens, text = example_view.text_tokens(example), example_view.view(example, tokenizer)
        num_bytes = _num_bytes(store, example)
        console.rule(f"{name} {index}: {len(tokens)} tokens, {num_bytes} bytes")
        documents = told[number] if told else []
        for line in shown(documents):
            console.print(line, style="dim", markup=False, soft_wrap=True)
        console.print(text, soft_wrap=True)
        result = {"split": name, "index": index, "tokens": tokens.tolist(), "text": text.plain}
        found.append(result | ({"documents": documents} if told else {}))
    return found


def _num_bytes(store: TokenStore, example: Mapping[str, np.ndarray]) -> int:
    starts = text_starts(example, store.manifest.vocabulary.special["eos"])
    return sum(store.token_bytes.count(example[part], is_start) for part, is_start in starts.items())


def _examples(store: TokenStore, name: str, first: int, count: int) -> list[tuple[int, Mapping[str, np.ndarray]]]:
    split = store.split(name)
    if not 0 <= first < len(split):
        raise UserError(f"--first={first}: split {name!r} holds examples 0 to {len(split) - 1:,}")
    return [(index, split[index]) for index in range(first, min(first + count, len(split)))]

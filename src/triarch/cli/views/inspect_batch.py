"""What a model is fed: rows of a batch as a run would read it, of one store or of a mixture."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import rich.console

from triarch.cli.gin.files import build_field
from triarch.cli.views import batch_view
from triarch.cli.views.provenance_view import origins, shown
from triarch.data.mixture import MixturePhase
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.data.batches import Batches
    from triarch.data.store import TokenStore
    from triarch.data.streams import ExampleId
    from triarch.objectives import Objective
    from triarch.tokenizers import Tokenizer
    from triarch.training.inputs import Inputs

ARCHITECTURES = ("encoder-decoder", "decoder-only", "encoder-only")


def show_batch(
    args: argparse.Namespace,
    stores: Sequence[TokenStore],
    phases: tuple[MixturePhase, ...],
    split: str,
    tokenizer: Tokenizer,
    console: rich.console.Console,
) -> dict[str, Any]:
    """Prints the first rows of a batch and returns them; its batch size and seed count, where gin binds them.

    Raises:
      UserError: gin binds no objective, or it does not fit the stores or the architecture.
    """
    from triarch.objectives import SpecialTokens
    from triarch.objectives.base import require_layout
    from triarch.training.inputs import check_alike, fresh_order, make_batches

    objective = build_field("RunConfig.objective")
    if build_field("RunConfig.init_data"):
        raise UserError(
            f"{', '.join(args.gin_file)}: reads on after the data of another run (RunConfig.init_data): name the run's "
            "folder, as triarch inspect RUN"
        )
    if objective is None:
        raise UserError(f"{', '.join(args.gin_file)}: sets no RunConfig.objective (see gin_configs/objectives)")
    if args.step < 0:
        raise UserError(f"--step={args.step}: expected 0 or more")
    check_alike(stores)
    manifest = stores[0].manifest
    for store in stores:
        require_layout(objective, manifest.layout, str(store.path), manifest.lengths, store.manifest.gap)
    architecture = args.architecture or _architecture(objective, manifest.window)
    special = SpecialTokens.from_manifest(manifest.vocabulary.special)
    transform = objective.bind(architecture, special, manifest.vocabulary.size, manifest.window).features
    batch_size = build_field("RunConfig.batch_size") or max(args.examples, 1)
    rows = slice(0, min(max(args.examples, 1), batch_size))
    seed = build_field("RunConfig.seed") or 0
    order = fresh_order(stores, split, phases, batch_size)
    batches = make_batches(stores, split, transform, order, batch_size, seed, rows)
    return _show_rows(args, batches, dict(enumerate(stores)), split, objective, architecture, tokenizer, console)


def show_run(
    args: argparse.Namespace, segments: Sequence[Inputs], tokenizer: Tokenizer, console: rich.console.Console
) -> dict[str, Any]:
    """Prints the first rows of a batch that a run was or will be fed, and returns them.

    Raises:
      UserError: the run has no such step.
    """
    from triarch.training.record.order import check_steps

    check_steps(range(args.step, args.step + 1), segments[-1].config.steps)
    inputs = segment_at(segments, args.step)
    config = inputs.config
    batches = inputs.training(slice(0, min(max(args.examples, 1), config.batch_size)))
    stores = dict(zip(inputs.order.numbers(inputs.source_names), inputs.stores, strict=True))
    architecture = config.model.architecture
    return _show_rows(
        args, batches, stores, config.data.train_split, config.objective, architecture, tokenizer, console
    )


def segment_at(segments: Sequence[Inputs], step: int) -> Inputs:
    """Returns the inputs of the segment of a run that makes `step`, counted from 0."""
    return [inputs for inputs in segments if inputs.order.step <= step][-1]


def _show_rows(
    args: argparse.Namespace,
    batches: Batches,
    stores: Mapping[int, TokenStore],
    split: str,
    objective: Objective,
    architecture: str,
    tokenizer: Tokenizer,
    console: rich.console.Console,
) -> dict[str, Any]:
    from triarch.objectives import SpecialTokens

    special = SpecialTokens.from_manifest(tokenizer.info.special)
    batch = batches.batch(args.step)
    found = []
    console.print(batch_view.legend())
    ids = batches.example_ids(args.step)[: args.examples]
    told = _origins(stores, split, ids)
    for number, (source, index, epoch) in enumerate(ids):
        store = stores[source]
        row = {feature: values[number] for feature, values in batch.items()}
        where = f"{store.path} {split}" if len(stores) > 1 else split
        console.rule(f"{objective.name}, {architecture}: batch {args.step} row {number}, {where} {index} epoch {epoch}")
        documents = told.get(number)
        for line in shown(documents or ()):
            console.print(line, style="dim", markup=False, soft_wrap=True)
        paragraphs = batch_view.view(row, tokenizer, special)
        for paragraph in paragraphs:
            console.print(paragraph, soft_wrap=True)
        shown_row = {"store": str(store.path), "index": index, "epoch": epoch}
        shown_row |= {"documents": documents} if documents is not None else {}
        features = {feature: values.tolist() for feature, values in row.items()}
        found.append(shown_row | {"features": features, "text": [paragraph.plain for paragraph in paragraphs]})
    return {"objective": objective.name, "architecture": architecture, "step": args.step, "rows": found}


def _origins(stores: Mapping[int, TokenStore], split: str, ids: Sequence[ExampleId]) -> dict[int, list[dict[str, Any]]]:
    """Returns, by number, where those of the examples `ids` come from whose store tells; each is opened once."""
    found: dict[int, list[dict[str, Any]]] = {}
    for source, store in stores.items():
        numbers = [number for number, example in enumerate(ids) if example.source == source]
        told = origins(store, split, [ids[number].index for number in numbers]) if numbers else None
        found |= dict(zip(numbers, told or (), strict=False))
    return found


def phase_lines(stores: Sequence[TokenStore], phases: Sequence[MixturePhase], split: str) -> list[str]:
    """Returns a line for each phase of a mixture: from which step on which store has how much of a batch."""
    sizes = [len(store.split(split)) for store in stores]
    lines = []
    for phase in phases:
        weights = phase.whole_weights(sizes)
        shares = [
            f"{weight / sum(weights):.2%} {store.path}" for store, weight in zip(stores, weights, strict=True) if weight
        ]
        lines.append(f"from step {phase.start:,}: {', '.join(shares)}")
    return lines


def _architecture(objective: Any, window: int) -> str:
    """Returns the architecture of the model that gin binds, or the first that the objective trains."""
    try:
        model = build_field("RunConfig.model")
    except UserError as error:
        raise UserError(f"{error}; or choose an --architecture") from None
    if model is not None:
        return model.architecture
    for architecture in ARCHITECTURES:
        try:
            objective.lengths(architecture, window)
        except UserError as error:
            last = error
        else:
            return architecture
    raise last

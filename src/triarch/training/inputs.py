"""What a run reads: stores, objective and model brought together and checked against each other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from triarch.data.batches import Batches
from triarch.data.features import Features, Transform
from triarch.data.manifest import Vocabulary
from triarch.data.mixture import MixturePhase, StoreMixture, whole_phases
from triarch.data.packed_batches import PackedBatches
from triarch.data.source_order import SourceOrder
from triarch.data.store import TokenStore
from triarch.data.streams import Epochs, Interleaved
from triarch.data.tasks import check_held_out
from triarch.errors import UserError
from triarch.models.layers.parts import Convention
from triarch.objectives.base import BoundObjective, SpecialTokens, require_layout
from triarch.training.config import RunConfig
from triarch.training.record.segments import Segment, flops_per_sequence

_VALIDATION_SEED = 0


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The data of a run.

    Attributes:
      config: of the run.
      stores: the token stores, of one vocabulary, window and layout.
      objective: how their examples become a loss.
      order: of the examples, and where in it these inputs begin.
      earlier: the run's segments before.
      phase: name of the run's phase that reads this; empty for a run without phases.
      fresh_optimizer: whether the segment begins with a fresh optimizer state.
    """

    config: RunConfig
    stores: tuple[TokenStore, ...]
    objective: BoundObjective
    order: SourceOrder
    earlier: tuple[Segment, ...] = ()
    phase: str = ""
    fresh_optimizer: bool = False

    @property
    def window(self) -> int:
        """Tokens of one example, over both sides."""
        return self.config.data.window

    def least_rows(self, size: int) -> int:
        """Returns the rows of a batch of `size` examples; of such that share rows, what their mean length allows."""
        if not self.config.data.pack_batches:
            return size
        splits = [store.manifest.splits[self.config.data.train_split] for store in self.stores]
        return math.ceil(size * min(split.tokens / split.examples for split in splits) / self.window)

    @property
    def segment(self) -> Segment:
        """The run's segment that reads this."""
        return Segment(self.config, self.order, self.phase, self.fresh_optimizer)

    @property
    def source_names(self) -> list[str]:
        """What identifies each of the stores in `order`."""
        return source_names(self.stores, self.config.data.train_split)

    def training(self, rows: slice | None = None) -> Batches:
        """Returns the batches to train on, from the segment's first step on; `rows` are this host's."""
        config = self.config
        features, split = self.objective.features, config.data.train_split
        return make_batches(self.stores, split, features, self.order, config.batch_size, config.seed, rows)

    def validation(self, rows: slice | None = None) -> Batches:
        """Returns the batches to evaluate on, the same for every run on these stores: as much of each."""
        return self._validation(self.objective.features, rows)

    def _validation(self, transform: Transform, rows: slice | None) -> Batches:
        split, size = self.config.data.validation_split, self.config.batch_size
        order = fresh_order(self.stores, split, (MixturePhase(weights=(1,) * len(self.stores)),), size)
        return make_batches(self.stores, split, transform, order, size, _VALIDATION_SEED, rows)

    def packed(self, batches: Batches, multiple: int, own: Callable[[int], slice]) -> PackedBatches:
        """Returns batches of the same examples, which share rows; see `PackedBatches`.

        Args:
          batches: of `raw_training` or `raw_validation`.
          multiple: of which the number of rows is one.
          own: gives this host's rows, from the number of rows of a batch.
        """
        manifest = self.stores[0].manifest
        lengths = manifest.lengths or {}
        sides = (lengths["inputs"], lengths["targets"])
        return PackedBatches(
            batches, self.objective.features, sides, manifest.vocabulary.special["pad"], multiple, own
        )  # fmt: skip

    def raw_training(self) -> Batches:
        """Returns the batches to train on as the store has their examples, all of them."""
        config = self.config
        return make_batches(
            self.stores, config.data.train_split, _as_it_is, self.order, config.batch_size, config.seed
        )  # fmt: skip

    def raw_validation(self) -> Batches:
        """Returns the batches to evaluate on likewise."""
        return self._validation(_as_it_is, None)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All of the run's segments, the one that reads this last."""
        return (*self.earlier, self.segment)

    def tokens_until(self, step: int) -> int:
        """Returns how many tokens the run has read before `step`, over all its segments."""
        return sum(one.config.data.window * one.sequences(end) for one, end in self._until(step))

    def scored_until(self, step: int) -> int:
        """Returns how many tokens at most carried loss before `step`, over all its segments."""
        return int(self._sum(step, lambda config: config.bound().num_scored))

    def flops_until(self, step: int, convention: Convention) -> float:
        """Returns the model's FLOPs of the run's steps before `step`, over all its segments."""
        return self._sum(step, lambda config: flops_per_sequence(config, convention))

    def _sum(self, step: int, of_sequence: Callable[[RunConfig], float]) -> float:
        """Returns the sum of what a config makes of one sequence over those read before `step`."""
        total, known = 0.0, {}
        for number, (one, end) in enumerate(self._until(step)):
            # Within a phase only the number of sequences changes, and there may be hundreds of stages.
            key = one.phase or number
            if key not in known:
                known[key] = of_sequence(one.config)
            total += known[key] * one.sequences(end)
        return total

    def _until(self, step: int) -> list[tuple[Segment, int]]:
        """Returns the segments that begin before `step`, and where each ends or is at `step`."""
        segments = [one for one in self.segments if one.order.step < step]
        return list(zip(segments, [*(one.order.step for one in segments[1:]), step], strict=True))


def _as_it_is(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
    return dict(example)


def source_names(stores: Sequence[TokenStore], split: str) -> list[str]:
    """Returns what identifies each store's split, wherever the store lies: its fingerprint and the split's name.

    Copies of one store are numbered.
    """
    names: list[str] = []
    for store in stores:
        name = f"{store.manifest.fingerprint}/{split}"
        copies = sum(other.partition("#")[0] == name for other in names)
        names.append(f"{name}#{copies + 1}" if copies else name)
    return names


def fresh_order(
    stores: Sequence[TokenStore], split: str, phases: Sequence[MixturePhase], batch_size: int
) -> SourceOrder:
    """Returns the order of the examples of stores, mixed in `phases`, from their beginning.

    Raises:
      UserError: a store lacks the split, or holds nothing in it.
    """
    whole = whole_phases(phases, 0, [len(store.split(split)) for store in stores])
    return SourceOrder.begin(source_names(stores, split), whole, batch_size)


def make_batches(
    stores: Sequence[TokenStore],
    split: str,
    transform: Transform,
    order: SourceOrder,
    batch_size: int,
    seed: int,
    rows: slice | None = None,
) -> Batches:
    """Returns the batches of stores in `order`; see `Inputs`.

    Raises:
      UserError: a store lacks the split, holds nothing in it, or has no place in the order.
    """
    numbers = order.numbers(source_names(stores, split))
    streams = {
        number: Epochs(store.split(split), transform, seed, number, store.manifest.passes or 1)
        for number, store in zip(numbers, stores, strict=True)
    }
    return Batches(Interleaved(streams, order.interleaving()), batch_size, rows, order.step, order.position)


def mixture_phases(config: RunConfig) -> tuple[MixturePhase, ...]:
    """Returns the phases in which a run mixes its stores; of one store a single one."""
    store = config.data.store
    return store.phases if isinstance(store, StoreMixture) else (MixturePhase(),)


def next_order(inputs: Inputs, before: Segment, step: int, first_step: int | None = None) -> SourceOrder:
    """Returns the order in which `inputs` continue another segment from `step` on; see `SourceOrder.then`."""
    config, split = inputs.config, inputs.config.data.train_split
    sizes = [len(store.split(split)) for store in inputs.stores]
    phases = whole_phases(mixture_phases(config), step if first_step is None else first_step, sizes)
    return before.order.then(step, before.config.batch_size, inputs.source_names, phases, config.batch_size, first_step)


def open_inputs(config: RunConfig) -> Inputs:
    """Opens the stores of a run; touches no device.

    Raises:
      UserError: a store is missing, damaged or lacks a split, its windows have another length, its vocabulary or layout
        is not that of the others, the objective does not fit the architecture, or the vocabulary not the model.
    """
    chosen = config.data.store
    if chosen is None:
        raise UserError("DataConfig.store is not set: name a folder made by `triarch prepare`")
    folders = chosen.stores if isinstance(chosen, StoreMixture) else (chosen,)
    stores = tuple(_open_store(folder, config) for folder in folders)
    check_alike(stores)
    check_held_out(stores, config.data.train_split, config.held_out_tasks)
    vocabulary = stores[0].manifest.vocabulary
    objective = config.bound(SpecialTokens.from_manifest(vocabulary.special), vocabulary.size)
    _ = objective.features  # Says here what does not fit, not when the first batch is read.
    order = fresh_order(stores, config.data.train_split, mixture_phases(config), config.batch_size)
    return Inputs(config, stores, objective, order)


def _open_store(folder: str, config: RunConfig) -> TokenStore:
    store = TokenStore.open(folder)
    manifest = store.manifest
    if manifest.window != config.data.window:
        raise UserError(
            f"{folder}: its windows are {manifest.window} tokens long, but DataConfig.window is {config.data.window}"
        )
    if manifest.vocabulary.size > config.model.vocab_size:
        raise UserError(
            f"{folder}: its vocabulary has {manifest.vocabulary.size} tokens, but the model's vocab_size is "
            f"{config.model.vocab_size}: prepare a store with a smaller vocabulary, or raise ModelConfig.vocab_size"
        )
    if config.data.pack_batches and manifest.layout != "pairs":
        raise UserError(
            f"DataConfig.pack_batches = True: the layout of {folder} is {manifest.layout!r}, expected 'pairs'"
            f"{', which share rows already' if manifest.layout == 'packed_pairs' else ''}"
        )
    require_layout(config.objective, manifest.layout, folder, manifest.lengths, manifest.gap)
    if hasattr(config.objective, "check_labels"):
        config.objective.check_labels(manifest.labels, folder)
    store.split(config.data.train_split)
    if config.eval_every is not None:
        store.split(config.data.validation_split)
    return store


def check_alike(stores: Sequence[TokenStore]) -> None:
    """Raises UserError unless examples of all stores can stand in one batch."""
    for store in stores[1:]:
        _require_alike(stores[0], store)


def _require_alike(first: TokenStore, other: TokenStore) -> None:
    ours, theirs = first.manifest, other.manifest
    if ours.window != theirs.window:
        raise UserError(
            f"{other.path}: its windows are {theirs.window} tokens long, those of {first.path} {ours.window}: the "
            "stores of a mixture need the same length"
        )
    if ours.vocabulary != theirs.vocabulary:
        raise UserError(
            f"{other.path}: its vocabulary ({_described(theirs.vocabulary)}) is not that of {first.path} "
            f"({_described(ours.vocabulary)}): prepare it again with --vocabulary_from={first.path}"
        )
    if ours.labels != theirs.labels:
        raise UserError(
            f"{other.path}: its labels are not those of {first.path}: the stores of a mixture need the same ones"
        )
    if ours.layout != theirs.layout:
        raise UserError(
            f"{other.path}: its layout is {theirs.layout!r}, that of {first.path} {ours.layout!r}: the stores of a "
            "mixture need the same one"
        )


def _described(vocabulary: Vocabulary) -> str:
    return f"{vocabulary.kind}, {vocabulary.size:,} ids, sha256 {vocabulary.fingerprint[:16]}"

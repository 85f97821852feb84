"""What a run reads: stores, objective and model brought together and checked against each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from triarch.data.batches import Batches
from triarch.data.manifest import Vocabulary
from triarch.data.mixture import MixturePhase, StoreMixture, interleaving
from triarch.data.store import TokenStore
from triarch.data.streams import Epochs, Interleaved
from triarch.errors import UserError
from triarch.objectives.base import SpecialTokens, Transform, require_layout
from triarch.training.config import RunConfig

_VALIDATION_SEED = 0


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The data of a run.

    Attributes:
      config: of the run.
      stores: the token stores, of one vocabulary, window and layout.
      transform: the objective's function from an example to features.
      lengths: tokens each side of the model reads, {"encoder": E, "decoder": D}.
      num_scored: targets of an example that carry loss, at most.
    """

    config: RunConfig
    stores: tuple[TokenStore, ...]
    transform: Transform
    lengths: dict[str, int]
    num_scored: int

    @property
    def window(self) -> int:
        """Tokens of one example, over both sides."""
        return self.config.data.window

    def training(self, rows: slice | None = None) -> Batches:
        """Returns the batches to train on; `rows` are this host's."""
        store = self.config.data.store
        phases = store.phases if isinstance(store, StoreMixture) else (MixturePhase(),)
        return self._batches(self.config.data.train_split, phases, self.config.seed, rows)

    def validation(self, rows: slice | None = None) -> Batches:
        """Returns the batches to evaluate on, the same for every run on these stores: as much of each."""
        phases = (MixturePhase(weights=(1,) * len(self.stores)),)
        return self._batches(self.config.data.validation_split, phases, _VALIDATION_SEED, rows)

    def flops_per_sequence(self, convention: str) -> float:
        """Returns the model's FLOPs for one example, "paper" or "train"."""
        lengths = self.lengths
        sides = (lengths.get("encoder", 0), lengths.get("decoder", 0))
        return self.config.model.flops(*sides, convention, self.num_scored)

    def _batches(self, split: str, phases: tuple[MixturePhase, ...], seed: int, rows: slice | None) -> Batches:
        return make_batches(self.stores, split, self.transform, phases, self.config.batch_size, seed, rows)


def make_batches(
    stores: Sequence[TokenStore],
    split: str,
    transform: Transform,
    phases: tuple[MixturePhase, ...],
    batch_size: int,
    seed: int,
    rows: slice | None = None,
) -> Batches:
    """Returns the batches of one store, or of several mixed in `phases`; see `Inputs`.

    Raises:
      UserError: a store lacks the split, or holds nothing in it.
    """
    splits = [store.split(split) for store in stores]
    streams = [Epochs(examples, transform, seed, source) for source, examples in enumerate(splits)]
    if len(streams) == 1:
        return Batches(streams[0], batch_size, rows)
    order = interleaving(phases, batch_size, [len(examples) for examples in splits])
    return Batches(Interleaved(streams, order), batch_size, rows)


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
    architecture, window = config.model.architecture, config.data.window
    vocabulary = stores[0].manifest.vocabulary
    special = SpecialTokens.from_manifest(vocabulary.special)
    transform = config.objective.transform(architecture, special, vocabulary.size, window)
    lengths = config.objective.lengths(architecture, window)
    return Inputs(config, stores, transform, lengths, config.objective.num_scored(architecture, window))


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
    require_layout(config.objective, manifest.layout, folder, manifest.lengths)
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
    if ours.layout != theirs.layout:
        raise UserError(
            f"{other.path}: its layout is {theirs.layout!r}, that of {first.path} {ours.layout!r}: the stores of a "
            "mixture need the same one"
        )


def _described(vocabulary: Vocabulary) -> str:
    return f"{vocabulary.kind}, {vocabulary.size:,} ids, sha256 {vocabulary.fingerprint[:16]}"

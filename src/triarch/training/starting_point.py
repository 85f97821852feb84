"""Training that begins from an export's parameters: fine-tuning, further phases, imported models."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.files import write_whole
from triarch.interchange import Manifest, Placement, parameters, read_export, read_manifest
from triarch.interchange.manifest import TUNED_FROM
from triarch.models import ModelConfig
from triarch.training.state import Tree

# These say how parameters begin, which an export has behind it; the padding is that of the vocabulary.
_NO_DIFFERENCE = ("kernel_init", "init_std", "embedding_init_std", "pad_id")


@dataclasses.dataclass(frozen=True)
class StartingPoint:
    """An export whose parameters fit a run's network.

    Attributes:
      folder: the export.
      manifest: what it says of itself.
      differences: options in which the run's network is another, as "option: value there -> value here".
    """

    folder: Path
    manifest: Manifest
    differences: tuple[str, ...]

    def describe(self) -> str:
        """Returns a line for the user."""
        step = "" if self.manifest.origin.step is None else f" of step {self.manifest.origin.step}"
        changed = f"; the network differs in {'; '.join(self.differences)}" if self.differences else ""
        return f"from the parameters of {self.folder}{step}{changed}"

    def write(self, workdir: Path) -> None:
        """Keeps in a run what the Hugging Face folder said that it began with, if there is one, for its export."""
        said = self.manifest.origin.imported
        if said is not None:
            kept = {key: said.get(key) for key in ("huggingface", "config", "generation_config")}
            write_whole(workdir / f"{TUNED_FROM}.json", json.dumps(kept, indent=2) + "\n")

    def parameters(self, target: Tree, placement: Placement) -> Tree:
        """Reads the parameters into the shapes and shardings of `target`.

        Raises:
          UserError: the export is damaged.
        """
        loaded = read_export(self.folder, placement=placement)
        tree: Any = parameters.nest(parameters.flatten(loaded.model))
        return jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), tree, target)


def open_starting_point(folder: Path, model: ModelConfig, store: TokenStore) -> StartingPoint:
    """Makes sure that an export's parameters fit a network and a store; touches no device.

    Raises:
      UserError: there is no export; a parameter is missing, is one too many or has another shape (named); the
        export's vocabulary is known and is not the store's.
    """
    manifest = read_manifest(folder)
    vocabulary = manifest.origin.vocabulary
    if vocabulary is not None and vocabulary["fingerprint"] != store.manifest.vocabulary.fingerprint:
        raise UserError(
            f"RunConfig.init_from = {str(folder)!r}: its vocabulary is not that of {store.path}: "
            f"prepare the store again with --vocabulary={folder}"
        )
    stored = {name: tensor.shape for name, tensor in manifest.tensors.items()}
    parameters.check(parameters.specs(model), stored, f"RunConfig.init_from = {str(folder)!r}")
    return StartingPoint(folder, manifest, _differences(manifest.config, model))


def _differences(there: ModelConfig, here: ModelConfig) -> tuple[str, ...]:
    names = [field.name for field in dataclasses.fields(here) if field.name not in _NO_DIFFERENCE]
    pairs = {name: (getattr(there, name), getattr(here, name)) for name in names}
    return tuple(f"{name}: {old!r} -> {new!r}" for name, (old, new) in pairs.items() if old != new)

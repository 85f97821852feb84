"""A run of adapters read again: they lie in its checkpoints, the parameters that they go with elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from triarch.errors import UserError
from triarch.interchange import StoredModel
from triarch.models import LoRA, ModelConfig
from triarch.models.adapters.lora import is_layers_kernel, read_lora
from triarch.models.adapters.network import ADAPTER
from triarch.models.adapters.quantised import is_quantisable, quantise
from triarch.models.network import ParameterSpec, specs
from triarch.training.record.fingerprint import CONFIG_JSON, is_run
from triarch.training.starting_point import parameters_fingerprint, read_taken

Parts = Callable[[], Iterator[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class AdaptedRun:
    """What a run of adapters says of them.

    Attributes:
      adapter: which kernels are adapted, and how.
      base: folder of the run or export that they go with.
      base_step: of that run, the checkpoint; None of an export.
      dropout: before the adapters, in training.
    """

    adapter: LoRA
    base: Path
    base_step: int | None
    dropout: float


def adapted_run(workdir: Path, fields: Mapping[str, Any]) -> AdaptedRun | None:
    """Returns what a run says of its adapters; None for a run of whole parameters.

    Args:
      workdir: the run folder.
      fields: of its config.json: "adapter", "init_from" and "dropout".

    Raises:
      UserError: config.json is damaged, or the base is not there or holds other parameters than it did.
    """
    adapter = read_lora(fields.get("adapter"), str(workdir / CONFIG_JSON))
    if adapter is None:
        return None
    taken, named = read_taken(workdir), fields.get("init_from")
    if taken is None or not isinstance(named, str):
        raise UserError(f"{workdir / CONFIG_JSON}: damaged: does not say what its adapters go with")
    base = _found(workdir, Path(named))
    if base is None:
        raise UserError(f"{workdir}: its adapters go with {named}, which is not there: put it back")
    step = taken["step"] if is_run(base) else None
    if parameters_fingerprint(base, step) != taken["parameters"]:
        raise UserError(f"{workdir}: its adapters go with what {base} held before: it has other parameters now")
    dropout = fields.get("dropout")
    return AdaptedRun(adapter, base, step, float(dropout.get("adapter", 0)) if isinstance(dropout, Mapping) else 0.0)


def adapter_specs(known: Mapping[str, ParameterSpec]) -> dict[str, ParameterSpec]:
    """Returns the specs of the adapters alone."""
    return {name: spec for name, spec in known.items() if name.startswith(f"{ADAPTER}/")}


@dataclasses.dataclass(frozen=True)
class SummedLeaf:
    """A kernel of a base with its update, read part by part as the base is: an array of a saved table.

    Attributes:
      shape: of the whole array.
      dtype: of the whole array: float32.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    _parts: Parts

    def parts(self) -> Iterator[np.ndarray]:
        """Reads it, some rows at a time; raises as the base's."""
        return self._parts()


@dataclasses.dataclass(frozen=True)
class AdaptedStoredModel(StoredModel):
    """A base on disk with adapters in memory; its parameters read one by one are the sums.

    Attributes:
      base: the stored base.
      adapter: which kernels are adapted, and how.
      dropout: before the adapters, in training.
      updates: A and B of each adapted kernel, [..., inputs, rank] and [..., rank, outputs].
    """

    base: StoredModel
    adapter: LoRA
    dropout: float
    updates: Mapping[str, tuple[np.ndarray, np.ndarray]]

    @property
    def rank(self) -> int:
        return self.adapter.rank

    @property
    def alpha(self) -> float:
        return self.adapter.alpha

    def leaf(self, name: str) -> Any:
        leaf, spec = self.base.leaf(name), specs(self.config)[name]
        is_coded = self.adapter.base != "float32" and is_layers_kernel(name, spec) and is_quantisable(spec.shape)
        if name not in self.updates and not is_coded:
            return leaf
        return SummedLeaf(leaf.shape, np.dtype(np.float32), lambda: self._sums(name, leaf, is_coded))

    def _sums(self, name: str, leaf: Any, is_coded: bool) -> Iterator[np.ndarray]:
        # Blocks of inputs that share a scale may lie in several parts, unless layers do.
        is_matrix = len(leaf.shape) == 2
        parts = iter([np.concatenate(list(leaf.parts()))]) if is_matrix else leaf.parts()
        start = 0
        for part in parts:
            values = part.astype(np.float32)
            if is_coded:
                values = np.asarray(quantise(jnp.asarray(values), self.adapter.base).values())
            if name in self.updates:
                down, up = self.updates[name]
                rows = ... if is_matrix else slice(start, start + len(part))
                values = values + np.float32(self.adapter.scale) * (down[rows] @ up[rows])
            start += len(part)
            yield values


def updates_of(config: ModelConfig, adapter: LoRA, values: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns A and B of each adapted kernel by its name, from adapters by theirs."""
    return {
        name: (np.asarray(values[f"{ADAPTER}/{name}/down"]), np.asarray(values[f"{ADAPTER}/{name}/up"]))
        for name in adapter.adapted(specs(config))
    }


def _found(workdir: Path, named: Path) -> Path | None:
    """Returns a folder named as seen from here, or from a folder that the run is in."""
    places = [named, *(parent / named for parent in workdir.absolute().parents)]
    return next((place for place in places if place.is_dir()), None)

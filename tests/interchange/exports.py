"""Exports of tiny networks."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from flax import nnx

from tests.models import tiny
from triarch.interchange import LoadedModel, Origin, Placement, write_export
from triarch.models import Execution, ModelConfig, Transformer
from triarch.models.network import split

VOCABULARY = {
    "kind": "bytes",
    "size": 61,
    "fingerprint": "ab" * 32,
    "special": {"pad": 0, "bos": 1, "eos": 2, "mask": 3},
}
ORIGIN = Origin(
    objective={"class": "PrefixLM", "prefix_fraction": 0.5, "bidirectional_prefix": False},
    vocabulary=VOCABULARY,
    step=7,
    source={"run": "tiny"},
)


def network(config: ModelConfig, execution: Execution = tiny.FLOAT32) -> Transformer:
    """Returns a network whose parameters are `tiny.parameters(config)`."""
    return nnx.merge(*tiny.split(config, execution))


def loaded(config: ModelConfig, origin: Origin = ORIGIN) -> LoadedModel:
    """Returns such a network as if it had been loaded."""
    return LoadedModel(Path("tiny"), *split(network(config)), origin, Placement.one_device())


def export(folder: Path, config: ModelConfig = tiny.REDLLM, origin: Origin = ORIGIN, **options) -> Path:
    """Writes such a network to `folder`/export."""
    write_export(folder / "export", network(config), origin, **options)
    return folder / "export"


def logits(config: ModelConfig, features: dict) -> np.ndarray:
    """Returns such a network's logits, without this room's code."""
    graph, state = tiny.split(config)
    return np.asarray(jax.jit(lambda state, features: nnx.merge(graph, state)(features))(state, features))


def batch(config: ModelConfig) -> dict:
    """Returns features of two rows, one of them with padding."""
    first, second, third = tiny.documents(config)
    return tiny.lay_out(config, [[first, second], [third]]).batch

"""Which parameters a run trains: `RunConfig.train_only` and `RunConfig.frozen` made out for its network."""

from __future__ import annotations

from collections.abc import Sequence

from triarch.errors import UserError, nearest
from triarch.models import ModelConfig
from triarch.models.network import named, patterns, specs


def trained_names(model: ModelConfig, train_only: Sequence[str], frozen: Sequence[str]) -> frozenset[str] | None:
    """Returns the names of the parameters that a run trains; None for all.

    Args:
      model: the network.
      train_only: patterns (see `models.network.named`) of those trained; none for all.
      frozen: patterns of those not trained, even if `train_only` names them.

    Raises:
      UserError: a pattern names no parameter, or nothing is left to train.
    """
    if not train_only and not frozen:
        return None
    chosen = _named(model, train_only, "train_only") if train_only else frozenset(specs(model))
    trained = chosen - _named(model, frozen, "frozen")
    if not trained:
        raise UserError("RunConfig.train_only and RunConfig.frozen leave no parameter to train")
    return trained


def _named(model: ModelConfig, given: Sequence[str], field: str) -> frozenset[str]:
    known = specs(model)
    found: frozenset[str] = frozenset()
    for pattern in given:
        matching = named(known, pattern)
        if not matching:
            near = nearest(pattern, patterns(known))
            raise UserError(f"RunConfig.{field}: {pattern!r} names no parameter of this network{near}")
        found |= matching
    return found

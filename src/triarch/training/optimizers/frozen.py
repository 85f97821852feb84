"""Which parameters a run trains: `RunConfig.train_only` and `RunConfig.frozen` made out for its network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from triarch.errors import UserError, nearest

if TYPE_CHECKING:
    from triarch.models import MakeHead, ModelConfig
    from triarch.models.network import Specs


def trained_names(
    model: ModelConfig, train_only: Sequence[str], frozen: Sequence[str], make_head: MakeHead | None = None
) -> frozenset[str] | None:
    """Returns the names of the parameters that a run trains; None for all.

    Args:
      model: the network.
      train_only: patterns (see `models.network.named`) of those trained; none for all.
      frozen: patterns of those not trained, even if `train_only` names them.
      make_head: makes the parameters that an objective has beside the network; None for none.

    Raises:
      UserError: a pattern names no parameter, or nothing is left to train.
    """
    if not train_only and not frozen:
        return None
    # What builds a network takes most of a second to import.
    from triarch.models.network import specs

    known = specs(model, make_head)
    chosen = _named(known, train_only, "train_only") if train_only else frozenset(known)
    trained = chosen - _named(known, frozen, "frozen")
    if not trained:
        raise UserError("RunConfig.train_only and RunConfig.frozen leave no parameter to train")
    return trained


def _named(known: Specs, given: Sequence[str], field: str) -> frozenset[str]:
    from triarch.models.network import named, patterns

    found: frozenset[str] = frozenset()
    for pattern in given:
        matching = named(known, pattern)
        if not matching:
            near = nearest(pattern, patterns(known))
            raise UserError(f"RunConfig.{field}: {pattern!r} names no parameter of this network{near}")
        found |= matching
    return found

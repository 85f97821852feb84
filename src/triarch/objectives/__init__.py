"""How tokens become a loss: features from an example (numpy), and the loss on them (jax)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from triarch import registry
from triarch.errors import UserError
from triarch.objectives.base import BoundObjective, LossOptions, Objective, PairObjective, SpecialTokens, largest_window
from triarch.objectives.causal_lm import CausalLM
from triarch.objectives.contrastive.contrast import Contrast
from triarch.objectives.contrastive.margin_mse import MarginMSE
from triarch.objectives.distillation.distill import Distill
from triarch.objectives.labels.classify import Classify
from triarch.objectives.labels.classify_tokens import ClassifyTokens
from triarch.objectives.masked_lm import MaskedLM
from triarch.objectives.mixture import Mixture
from triarch.objectives.mntp import MNTP
from triarch.objectives.prefix_lm import PrefixLM
from triarch.objectives.span_corruption import SpanCorruption
from triarch.objectives.supervised import Supervised
from triarch.objectives.token_objective import TokenObjective
from triarch.objectives.ul2 import T5GEMMA2, UL2

if TYPE_CHECKING:
    from triarch.models import MakeHead, ModelConfig

OBJECTIVES = {
    objective.name: objective
    for objective in (
        *(CausalLM, PrefixLM, SpanCorruption, Supervised, MaskedLM, MNTP, Mixture, Distill),
        *(Classify, ClassifyTokens, Contrast, MarginMSE),
    )
}

__all__ = [
    "MNTP",
    "OBJECTIVES",
    "T5GEMMA2",
    "UL2",
    "BoundObjective",
    "CausalLM",
    "Classify",
    "ClassifyTokens",
    "Contrast",
    "Distill",
    "LossOptions",
    "MarginMSE",
    "MaskedLM",
    "Mixture",
    "Objective",
    "PairObjective",
    "PrefixLM",
    "SpanCorruption",
    "SpecialTokens",
    "Supervised",
    "TokenObjective",
    "kept_head",
    "largest_window",
    "learns_labels",
    "objective_from",
    "register_objective",
]


def register_objective(cls: type) -> type:
    """Makes an objective of one's own known to gin files, runs and exports; a decorator, returns the class.

    Args:
      cls: a frozen dataclass with the members of `Objective`.

    Raises:
      UserError: it lacks one, or its name is taken.
    """
    return registry.register(cls, "objective", Objective, [own.__name__ for own in OBJECTIVES.values()])


def objective_from(fields: Mapping[str, Any], owner: str) -> Objective:
    """Returns the objective that a run or export describes as {"class": name, field: value, ...}.

    Args:
      fields: plain values, as a run's config.json holds them; objectives within a mixture likewise.
      owner: what they belong to, for the message.

    Raises:
      UserError: the class or a field is unknown.
    """
    classes = {cls.__name__: cls for cls in OBJECTIVES.values()} | registry.registered("objective")
    cls = registry.find(fields, classes, "objective", owner)

    def value(plain: Any) -> Any:
        if isinstance(plain, Mapping):
            return objective_from(plain, owner)
        return tuple(map(value, plain)) if isinstance(plain, list | tuple) else plain

    try:
        return cls(**{key: value(plain) for key, plain in fields.items() if key not in ("class", registry.ORIGIN)})
    except TypeError as error:
        raise UserError(f"{owner}: objective {cls.__name__}: {error}") from None


def kept_head(fields: Mapping[str, Any] | None, config: ModelConfig, owner: str) -> MakeHead | None:
    """Returns what makes the head that belongs to a trained network, as a classifier's; None where it has none.

    Args:
      fields: its objective, as of `objective_from`; None where it is unknown.
      config: the network.
      owner: what they belong to, for the message.

    Raises:
      UserError: a field of the objective is unknown or out of range.
    """
    if fields is None or not learns_labels(fields):
        return None
    special, size = SpecialTokens.placeholders(config.vocab_size, 1), config.vocab_size
    return objective_from(fields, owner).bind(config.architecture, special, size, 1).make_head


def learns_labels(fields: Mapping[str, Any] | None) -> bool:
    """Returns whether an objective, given as of `objective_from`, is one whose head tells labels."""
    cls = {cls.__name__: cls for cls in OBJECTIVES.values()}.get((fields or {}).get("class", ""))
    return getattr(cls, "keeps_head", False)

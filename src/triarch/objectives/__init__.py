"""How tokens become a loss: features from an example (numpy), and the loss on them (jax)."""

from triarch.objectives.base import Objective, SpecialTokens
from triarch.objectives.causal_lm import CausalLM
from triarch.objectives.masked_lm import MaskedLM
from triarch.objectives.prefix_lm import PrefixLM

OBJECTIVES = {objective.name: objective for objective in (CausalLM, PrefixLM, MaskedLM)}

__all__ = ["OBJECTIVES", "CausalLM", "MaskedLM", "Objective", "PrefixLM", "SpecialTokens"]

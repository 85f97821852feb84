"""How well a model predicts held-out text, comparably between architectures."""

from triarch.evaluation.held_out import ROLES, Domain, Evaluation, evaluate

__all__ = ["ROLES", "Domain", "Evaluation", "evaluate"]

"""How well a model predicts held-out text, comparably between architectures."""

from typing import TYPE_CHECKING

from triarch import lazy

if TYPE_CHECKING:
    from triarch.evaluation.corpora import made_with, open_corpus
    from triarch.evaluation.held_out import ROLES, Domain, Evaluation, Loss, evaluate
    from triarch.evaluation.store_sums import Options

__all__ = ["ROLES", "Domain", "Evaluation", "Loss", "Options", "evaluate", "made_with", "open_corpus"]
__getattr__ = lazy.names_from(
    __name__,
    {
        "corpora": ("made_with", "open_corpus"),
        "held_out": ("ROLES", "Domain", "Evaluation", "Loss", "evaluate"),
        "store_sums": ("Options",),
    },
)

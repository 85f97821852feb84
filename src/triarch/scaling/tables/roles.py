"""What the columns of a table stand for."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Role:
    """What a column stands for in a law.

    Attributes:
      name: as requests call it.
      help: what the column holds.
      symbol: what formulas call it; the column's own name without.
      usual: a pattern of what published tables call it; used to ask, never to guess.
      unit: an example of a unit to give, for help; None where the column has none.
      default: the column's name where none is given.
      several: whether it may name several columns.
      positive: whether every value must be above zero; otherwise finite is enough.
      text: whether cells are names, not numbers.
    """

    name: str
    help: str
    symbol: str = ""
    usual: str = ""
    unit: str | None = None
    default: str | None = None
    several: bool = False
    positive: bool = True
    text: bool = False

    @property
    def letter(self) -> str:
        """What formulas call it: its symbol, or its name where it has none that is one word."""
        return self.symbol if self.symbol.isidentifier() else self.name

    @property
    def flag(self) -> str:
        """How the command line names its column."""
        return f"--{self.name}_column" if self.name in ROLES else f"--column={self.name}"


PARAMS = Role("params", "model sizes N", "N", r"n|[mb]?params?|parameters?|model.?size|size", unit="1e6 if in millions")
TOKENS = Role(
    "tokens", "training tokens D (so far, along a curve)", "D", r"d|tokens?|data.?size|samples.?seen",
    unit="1e9 if in billions",
)  # fmt: skip
X = Role(
    "x", "input of power and log_linear; several with commas (power: a law of each)",
    usual=r"c|n|d|g?flops?|compute|params?|parameters?|tokens?", several=True,
)  # fmt: skip
Y = Role(
    "y", "what log_linear predicts; accuracies from 0 to 1 (downstream)", usual=r"acc|accuracy|score",
    unit="0.01 if accuracies are in per cent",
)  # fmt: skip
UNIQUE_TOKENS = Role(
    "unique_tokens", "different tokens U (data_constrained)", "U", r"u|unique", unit="1e9 if in billions"
)
FLOPS = Role(
    "flops",
    "FLOPs: budgets (isoflop), so far (envelope), or conventions with commas (chinchilla); else 6 N D. Where a"
    " table has FLOPs and only one of N and D, the other is worked out",
    "C", r"c|g?flops?|compute|budget", unit="1e9 if in GFLOPs, 8.64e19 if in petaFLOP/s-days", several=True,
)  # fmt: skip
RUN = Role("run", "which run a point belongs to (envelope)", usual=r"run|name|id|experiment|model", text=True)
LEARNING_RATE = Role("learning_rate", "peak learning rates (hyperparameters)", "learning rate", r"lr|learning.?rate")
BATCH = Role("batch", "batch sizes (hyperparameters)", "batch", r"bs|bsz|gbs|gbsz|batch")
LOSS = Role(
    "loss", "the loss (default: loss)", usual=r"l|loss|losses|nll|nats|ppl|perplexity|cross.?entropy", default="loss"
)
# Those that have flags of their own on the command line.
ROLES = {role.name: role for role in (PARAMS, TOKENS, X, Y, UNIQUE_TOKENS, FLOPS, RUN, LEARNING_RATE, BATCH, LOSS)}

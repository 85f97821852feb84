"""How long each run of a design trains: the tokens that a budget buys for a model."""

from __future__ import annotations

import dataclasses
import fractions
from typing import Literal

from triarch.errors import UserError
from triarch.fields import Positive, check


@dataclasses.dataclass(frozen=True)
class SequenceCost:
    """What a model costs.

    Attributes:
      num_params: with its embedding.
      num_params_non_embedding: without.
      flops: of one sequence, by convention.
      window: tokens of a sequence.
      num_scored: of them, targets that carry loss.
    """

    num_params: int
    num_params_non_embedding: int
    flops: dict[str, float]
    window: int
    num_scored: int

    def params(self, counted: str) -> int:
        """Returns N, "all" or "non_embedding"."""
        return self.num_params if counted == "all" else self.num_params_non_embedding


class _Rule:
    """What rules have in common: a level buys sequences at a price, and every run is kept unless a rule says which."""

    def price(self, cost: SequenceCost) -> fractions.Fraction:
        """Returns what a sequence costs, in the rule's unit; exact, so that steps are rounded once only."""
        raise NotImplementedError

    def sequences(self, level: float, cost: SequenceCost) -> float:
        """Returns the sequences that a level buys."""
        return float(fractions.Fraction(level) / self.price(cost))

    def spent(self, sequences: float, cost: SequenceCost) -> float:
        """Returns what so many sequences cost, in the rule's unit."""
        return float(fractions.Fraction(sequences) * self.price(cost))

    def keeps(self, sequences: float, cost: SequenceCost) -> bool:
        """Returns whether the design holds this run."""
        return True


@dataclasses.dataclass(frozen=True)
class IsoFlop(_Rule):
    """Every size at every compute budget (Hoffmann et al. 2022, approach 2): runs of a budget cost the same.

    Attributes:
      budgets: FLOPs of a run.
      convention: in which they are counted, "train" or "paper".
      tokens_per_parameter: the least and most tokens read for each non-embedding parameter; sizes beyond are left out
        of a budget, being far from its optimum. Empty: every size at every budget.
    """

    budgets: tuple[Positive, ...]
    convention: Literal["train", "paper"] = "train"
    tokens_per_parameter: tuple[float, ...] = ()

    unit = "FLOPs"

    def validate(self) -> None:
        """Raises UserError, naming the field, for a value out of range."""
        check(self)
        _check_levels("IsoFlop.budgets", self.budgets)
        bounds = self.tokens_per_parameter
        if bounds and not (len(bounds) == 2 and 0 <= bounds[0] < bounds[1]):
            raise UserError(f"IsoFlop.tokens_per_parameter = {bounds!r}: expected two numbers, the smaller one first")

    @property
    def described(self) -> str:
        """What is matched, in words."""
        return f"{len(self.budgets)} budgets in FLOPs of the {self.convention} convention"

    @property
    def levels(self) -> tuple[float, ...]:
        return self.budgets

    def name(self, level: float) -> str:
        """What runs of a budget are called."""
        return f"c{level:.3g}".replace("+", "")

    def price(self, cost: SequenceCost) -> fractions.Fraction:
        """Returns the FLOPs of a sequence."""
        return fractions.Fraction(cost.flops[self.convention])

    def keeps(self, sequences: float, cost: SequenceCost) -> bool:
        """Returns whether the design holds this run."""
        if not self.tokens_per_parameter:
            return True
        least, most = self.tokens_per_parameter
        return least <= sequences * cost.window / cost.num_params_non_embedding <= most


@dataclasses.dataclass(frozen=True)
class TokensPerParameter(_Rule):
    """Tokens in proportion to parameters: one ratio is a ladder along which both grow together (20: Hoffmann et al.
    2022), several are an over-training ladder (Gadre et al. 2024, arXiv 2403.08540).

    Attributes:
      ratios: tokens read for each parameter.
      params: which parameters, "non_embedding" or "all".
    """

    ratios: tuple[Positive, ...] = (20.0,)
    params: Literal["non_embedding", "all"] = "non_embedding"

    unit = "tokens a parameter"

    def validate(self) -> None:
        """Raises UserError, naming the field, for a value out of range."""
        check(self)
        _check_levels("TokensPerParameter.ratios", self.ratios)

    @property
    def described(self) -> str:
        """What is matched, in words."""
        return f"tokens read for each parameter ({self.params.replace('_', '-')})"

    @property
    def levels(self) -> tuple[float, ...]:
        return self.ratios

    def name(self, level: float) -> str:
        """What runs of a ratio are called."""
        return f"x{level:g}".replace("+", "")

    def price(self, cost: SequenceCost) -> fractions.Fraction:
        """Returns the tokens of a sequence for each parameter."""
        return fractions.Fraction(cost.window, cost.params(self.params))


@dataclasses.dataclass(frozen=True)
class FixedTokens(_Rule):
    """Every size on the same numbers of tokens.

    Attributes:
      tokens: of a run.
      counted: "read" counts what a model reads, over both its sides; "scored" the targets it is trained on, half as
        many for an encoder-decoder under the prefix objective.
    """

    tokens: tuple[Positive, ...]
    counted: Literal["read", "scored"] = "read"

    unit = "tokens"

    def validate(self) -> None:
        """Raises UserError, naming the field, for a value out of range."""
        check(self)
        _check_levels("FixedTokens.tokens", self.tokens)

    @property
    def described(self) -> str:
        """What is matched, in words."""
        return f"tokens {self.counted}"

    @property
    def levels(self) -> tuple[float, ...]:
        return self.tokens

    def name(self, level: float) -> str:
        """What runs of so many tokens are called."""
        return f"d{level:.3g}".replace("+", "")

    def price(self, cost: SequenceCost) -> fractions.Fraction:
        """Returns the tokens of a sequence."""
        return fractions.Fraction(cost.window if self.counted == "read" else cost.num_scored)


Budget = IsoFlop | TokensPerParameter | FixedTokens


def _check_levels(field: str, levels: tuple[float, ...]) -> None:
    if not levels:
        raise UserError(f"{field} is empty")
    if len(set(levels)) < len(levels):
        raise UserError(f"{field} = {levels!r} names something twice")

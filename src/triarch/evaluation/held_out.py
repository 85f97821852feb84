"""Held-out loss of a model on token stores, every architecture on the same windows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from triarch.data.store import TokenStore
from triarch.evaluation.store_sums import Options, check_vocabulary, store_sums
from triarch.evaluation.sums import WindowSums
from triarch.interchange import LoadedModel
from triarch.progress import Progress

Role = Literal["in_domain", "out_of_domain"]
ROLES = ("in_domain", "out_of_domain")


@dataclasses.dataclass(frozen=True)
class Domain:
    """A store to evaluate on, and whether its kind of text was trained on."""

    store: TokenStore
    role: Role

    @property
    def name(self) -> str:
        """The task that the store was made from."""
        return self.store.manifest.task


@dataclasses.dataclass(frozen=True)
class Loss:
    """How well a model predicts some tokens.

    Attributes:
      nats_per_token: mean cross-entropy of the scored tokens.
      standard_error: of `nats_per_token` over windows, for tokens of a window are correlated; None for one window.
      bits_per_byte: cross-entropy of the scored tokens in bits over their UTF-8 bytes; None if they have none.
      perplexity: exp(nats_per_token); None above 1.8e308, what a number can hold.
      num_tokens: scored tokens.
      num_bytes: UTF-8 bytes they stand for.
      num_windows: windows, or examples, they are from: the split's first.
    """

    nats_per_token: float
    standard_error: float | None
    bits_per_byte: float | None
    perplexity: float | None
    num_tokens: int
    num_bytes: int
    num_windows: int


@dataclasses.dataclass(frozen=True)
class Evaluation(Loss):
    """Held-out loss of one model on one domain.

    Attributes:
      domain: task name of the store.
      role: "in_domain" or "out_of_domain".
      scoring: "paired", "pseudo_likelihood" or "native"; see `triarch.evaluation.scoring`.
    """

    domain: str
    role: Role
    scoring: str


def evaluate(
    model: LoadedModel, domains: Sequence[Domain], options: Options | None = None, *, show_progress: bool = False
) -> list[Evaluation]:
    """Returns the held-out loss for every domain and scoring, in that order.

    Args:
      model: to evaluate.
      domains: stores with their roles.
      options: what is scored; the defaults of `Options` when None.
      show_progress: draw a bar with the time left on stderr, where that is a terminal.

    Raises:
      UserError: a store's vocabulary is not the model's, its layout not one that the scoring reads, a split is missing
        or empty, or an option is out of range.
    """
    options = options or Options()
    options.check()
    for domain in domains:
        check_vocabulary(model, domain.store)
    with Progress(show_progress) as progress:
        return [
            Evaluation(**vars(summarise(sums)), domain=domain.name, role=domain.role, scoring=name)
            for domain in domains
            for name, sums in store_sums(model, domain.store, options, domain.name, progress)
        ]


def summarise(*strata: WindowSums) -> Loss:
    """Returns ratios of totals, with the standard error of a ratio over windows (delta method, n - 1).

    Args:
      strata: sums of the windows of each text, which are a sample of their own each.
    """
    nats, tokens, num_bytes = (sum(float(values.sum()) for values in parts) for parts in zip(*strata, strict=True))
    nats_per_token = nats / tokens if tokens else math.nan
    return Loss(
        nats_per_token=nats_per_token,
        standard_error=_error(strata, nats_per_token, tokens),
        bits_per_byte=nats / (math.log(2) * num_bytes) if num_bytes else None,
        perplexity=perplexity(nats_per_token),
        num_tokens=round(tokens),
        num_bytes=round(num_bytes),
        num_windows=sum(len(sums.nats) for sums in strata),
    )


def perplexity(nats_per_token: float) -> float | None:
    """Returns exp(nats_per_token), None where that is no number of 64 bits: of 709.8 nats and more, and of NaN."""
    try:
        value = math.exp(nats_per_token)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _error(strata: Sequence[WindowSums], nats_per_token: float, tokens: float) -> float | None:
    if not tokens or any(len(sums.nats) < 2 for sums in strata):
        return None
    residuals = [sums.nats - nats_per_token * sums.tokens for sums in strata]
    return math.sqrt(sum(len(own) * np.var(own, ddof=1) for own in residuals)) / tokens

"""Held-out loss of a model on token stores, every architecture on the same windows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from triarch.data.store import TokenStore
from triarch.evaluation.sampling import Scored
from triarch.evaluation.scoring import MEASURES
from triarch.evaluation.store_sums import Options, check_vocabulary, store_sums
from triarch.interchange import LoadedModel
from triarch.progress import Progress

Role = Literal["in_domain", "out_of_domain"]
ROLES = ("in_domain", "out_of_domain")


@dataclasses.dataclass(frozen=True)
class Domain:
    """A store to evaluate on.

    Attributes:
      store: of tokens.
      role: whether its kind of text was trained on.
      corpus: name of the corpus that it is, or is part of; None for the task that the store was made from.
      label: name of the domain within the corpus; None likewise.
      split: to evaluate on; None leaves it to the options.
    """

    store: TokenStore
    role: Role
    corpus: str | None = None
    label: str | None = None
    split: str | None = None

    @property
    def name(self) -> str:
        """What the domain is called."""
        return self.label or self.store.manifest.task


@dataclasses.dataclass(frozen=True)
class Loss:
    """How well a model predicts some tokens.

    Attributes:
      nats_per_token: mean cross-entropy of the scored tokens.
      standard_error: of `nats_per_token` as the loss on text of this kind, of which the split's documents are a sample:
        over documents, for the tokens of one are correlated; None for one document.
      split_error: of `nats_per_token` as the loss on the whole split, of which only a share was scored: over windows, 0
        where all were; None for one window of several.
      bits_per_byte: cross-entropy of the scored tokens in bits over their UTF-8 bytes; None if they have none.
      perplexity: exp(nats_per_token); None above 1.8e308, what a number can hold.
      num_tokens: scored tokens; where positions are drawn, those alone, which stand for all of their window.
      num_bytes: UTF-8 bytes they stand for.
      num_windows: windows, or examples, they are from.
      share: of the split's windows, how many these are, from 0 to 1.
      num_documents: documents that most of each window is from, over which the error is; where examples are pairs, or
        a store does not say which documents are in them, windows.
    """

    nats_per_token: float
    standard_error: float | None
    split_error: float | None
    bits_per_byte: float | None
    perplexity: float | None
    num_tokens: int
    num_bytes: int
    num_windows: int
    share: float
    num_documents: int


@dataclasses.dataclass(frozen=True)
class Evaluation(Loss):
    """Held-out loss of one model on one domain.

    Attributes:
      corpus: what was evaluated on.
      domain: of the corpus; its own name where it is one store.
      role: "in_domain" or "out_of_domain".
      scoring: "paired", "pseudo_likelihood" or "native"; see `triarch.evaluation.scoring`.
      split: of the store.
      store_fingerprint: of what the store holds.
      measure: version of scoring and draw, see `triarch.evaluation.scoring.MEASURES`.
      max_windows, pseudo_positions, seed: of `Options`.
    """

    corpus: str
    domain: str
    role: Role
    scoring: str
    split: str
    store_fingerprint: str
    measure: str
    max_windows: int | None
    pseudo_positions: int | None
    seed: int


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
            _evaluation(domain, own, name, scored)
            for domain in domains
            for own in [dataclasses.replace(options, split=domain.split or options.split)]
            for name, scored in store_sums(model, domain.store, own, domain.name, progress)
        ]


def _evaluation(domain: Domain, options: Options, scoring: str, scored: Scored) -> Evaluation:
    return Evaluation(
        **vars(summarise(scored)),
        corpus=domain.corpus or domain.name,
        domain=domain.name,
        role=domain.role,
        scoring=scoring,
        split=options.split,
        store_fingerprint=domain.store.manifest.fingerprint,
        measure=f"{MEASURES[scoring]}, sample {MEASURES['sample']}",
        max_windows=options.max_windows,
        pseudo_positions=options.pseudo_positions,
        seed=options.seed,
    )


def summarise(*strata: Scored) -> Loss:
    """Returns ratios of totals and their standard errors: those of a ratio, by the delta method (Cochran 1977, 6.4).

    Args:
      strata: what was scored of each text, which are samples of their own: a text counts as large as it is, however
        small a share of its windows, and of their tokens, was scored.
    """
    weights = [1 / scored.sample.share for scored in strata]
    nats, tokens, num_bytes = (
        sum(weight * float(values.sum()) for weight, values in zip(weights, parts, strict=True))
        for parts in zip(*(scored.sums for scored in strata), strict=True)
    )
    nats_per_token = nats / tokens if tokens else math.nan
    over_documents, over_windows, num_documents = 0.0, 0.0, 0
    for weight, (sums, sample, share) in zip(weights, strata, strict=True):
        residuals = sums.nats - nats_per_token * sums.tokens
        documents = _by_document(residuals, sample.documents)
        num_documents += len(documents)
        over_documents += weight**2 * _variance_of_sum(documents)
        left_out = 1 - sample.share * float(np.average(np.broadcast_to(share, sums.tokens.shape)))
        over_windows += weight**2 * left_out * _variance_of_sum(residuals) if left_out else 0.0
    return Loss(
        nats_per_token=nats_per_token,
        standard_error=_error(over_documents, tokens),
        split_error=_error(over_windows, tokens),
        bits_per_byte=nats / (math.log(2) * num_bytes) if num_bytes else None,
        perplexity=perplexity(nats_per_token),
        num_tokens=round(sum(float((scored.sums.tokens * scored.share).sum()) for scored in strata)),
        num_bytes=round(sum(float((scored.sums.bytes * scored.share).sum()) for scored in strata)),
        num_windows=sum(len(scored.sums.nats) for scored in strata),
        share=sum(len(scored.sums.nats) for scored in strata) / sum(scored.sample.population for scored in strata),
        num_documents=num_documents,
    )


def perplexity(nats_per_token: float) -> float | None:
    """Returns exp(nats_per_token), None where that is no number of 64 bits: of 709.8 nats and more, and of NaN."""
    try:
        value = math.exp(nats_per_token)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _by_document(residuals: np.ndarray, documents: np.ndarray | None) -> np.ndarray:
    if documents is None:
        return residuals
    return np.bincount(np.unique(documents, return_inverse=True)[1], residuals)


def _variance_of_sum(parts: np.ndarray) -> float:
    """Returns the variance of the sum of independent parts, estimated from them; NaN for one."""
    return len(parts) * float(np.var(parts, ddof=1)) if len(parts) > 1 else math.nan


def _error(variance: float, tokens: float) -> float | None:
    return math.sqrt(variance) / tokens if tokens and not math.isnan(variance) else None

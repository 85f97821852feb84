"""Perplexity on many domains at once, in sources of one or more domains as Paloma has them (arXiv 2312.10523)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triarch.data.manifest import FILE_NAME
from triarch.data.store import TokenStore
from triarch.errors import UserError, nearest
from triarch.evaluation.held_out import Loss, perplexity, summarise
from triarch.evaluation.sampling import Scored
from triarch.evaluation.store_sums import Options, check_vocabulary, store_sums
from triarch.interchange import LoadedModel
from triarch.progress import Progress

DOMAIN, MICRO, MACRO, MACRO_SOURCES = "domain", "micro", "macro", "macro_sources"


@dataclasses.dataclass(frozen=True)
class SuiteDomain:
    """One store of a suite: a domain of a source."""

    source: str
    name: str
    store: TokenStore


@dataclasses.dataclass(frozen=True)
class SuiteLoss(Loss):
    """The loss on a domain, or an average over several.

    Attributes:
      scoring: "paired", "pseudo_likelihood" or "native"; see `triarch.evaluation.scoring`.
      average: "domain": of one; "micro": every token counts alike; "macro": every domain counts alike;
        "macro_sources": every source counts alike, with the micro average of its domains, which is how
        arXiv 2510.26622 averages.
      source: of the domains; None for the whole suite.
      domain: its name; None for an average.
    """

    scoring: str
    average: str
    source: str | None
    domain: str | None


def open_suite(folder: Path) -> list[SuiteDomain]:
    """Opens the stores below `folder`, in the order of their names.

    Args:
      folder: holds a store for each domain, at SOURCE/DOMAIN, or at SOURCE where a source is one domain.

    Raises:
      UserError: there is no such folder, something in it is no store, or a store is damaged.
    """
    if not folder.is_dir():
        siblings = [entry.name for entry in folder.parent.glob("*/")] if folder.parent.is_dir() else []
        raise UserError(f"{folder}: no such folder of token stores{nearest(folder.name, siblings)}")
    if (folder / FILE_NAME).exists():
        raise UserError(f"{folder}: is one token store; a suite is a folder of them, SOURCE/DOMAIN")
    domains = [domain for source in _folders(folder) for domain in _source(source)]
    if not domains:
        raise UserError(f"{folder}: holds no token store; a suite's lie at SOURCE/DOMAIN (see `triarch prepare`)")
    return domains


def evaluate_suite(
    model: LoadedModel, suite: Sequence[SuiteDomain], options: Options | None = None, *, show_progress: bool = False
) -> list[SuiteLoss]:
    """Returns, scoring by scoring, the loss of every domain, then averages of each source of several and of the whole.

    Raises:
      UserError: as `triarch.evaluation.evaluate`.
    """
    options = options or Options()
    options.check()
    for domain in suite:
        check_vocabulary(model, domain.store)
    found: dict[str, list[tuple[SuiteDomain, Scored]]] = {}
    with Progress(show_progress) as progress:
        for domain in suite:
            label = f"{domain.source}/{domain.name}"
            for scoring, sums in store_sums(model, domain.store, options, label, progress):
                found.setdefault(scoring, []).append((domain, sums))
    return [loss for scoring, scored in found.items() for loss in averages(scoring, scored)]


def averages(scoring: str, scored: Sequence[tuple[SuiteDomain, Scored]]) -> list[SuiteLoss]:
    """Returns the losses of domains, of sources of several and of all, given what was scored of each domain."""
    sources = {
        source: [s for d, s in scored if d.source == source] for source in dict.fromkeys(d.source for d, _ in scored)
    }
    losses = [_loss(summarise(sums), scoring, DOMAIN, domain.source, domain.name) for domain, sums in scored]
    # Of a source that is one domain the averages would say the same again.
    for source, strata in ((source, strata) for source, strata in sources.items() if len(strata) > 1):
        losses.append(_loss(summarise(*strata), scoring, MICRO, source))
        losses.append(_loss(_mean([summarise(sums) for sums in strata]), scoring, MACRO, source))
    losses.append(_loss(summarise(*(sums for _, sums in scored)), scoring, MICRO))
    losses.append(_loss(_mean([summarise(sums) for _, sums in scored]), scoring, MACRO))
    losses.append(_loss(_mean([summarise(*strata) for strata in sources.values()]), scoring, MACRO_SOURCES))
    return losses


def _loss(loss: Loss, scoring: str, average: str, source: str | None = None, domain: str | None = None) -> SuiteLoss:
    return SuiteLoss(**vars(loss), scoring=scoring, average=average, source=source, domain=domain)


def _mean(losses: Sequence[Loss]) -> Loss:
    """Returns the mean of losses on separate texts; perplexity is that of the mean nats."""
    nats = float(np.mean([loss.nats_per_token for loss in losses]))
    bits = [loss.bits_per_byte for loss in losses if loss.bits_per_byte is not None]
    return Loss(
        nats_per_token=nats,
        standard_error=_error_of_mean([loss.standard_error for loss in losses]),
        split_error=_error_of_mean([loss.split_error for loss in losses]),
        bits_per_byte=float(np.mean(bits)) if len(bits) == len(losses) else None,
        perplexity=perplexity(nats),
        num_tokens=sum(loss.num_tokens for loss in losses),
        num_bytes=sum(loss.num_bytes for loss in losses),
        num_windows=sum(loss.num_windows for loss in losses),
        share=sum(loss.num_windows for loss in losses) / sum(loss.num_windows / loss.share for loss in losses),
        num_documents=sum(loss.num_documents for loss in losses),
    )


def _error_of_mean(errors: Sequence[float | None]) -> float | None:
    known = [error for error in errors if error is not None]
    return math.sqrt(sum(error**2 for error in known)) / len(known) if len(known) == len(errors) else None


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _source(folder: Path) -> list[SuiteDomain]:
    if (folder / FILE_NAME).exists():
        return [SuiteDomain(folder.name, folder.name, TokenStore.open(folder))]
    domains = [SuiteDomain(folder.name, entry.name, TokenStore.open(entry)) for entry in _folders(folder)]
    if not domains:
        raise UserError(f"{folder}: neither a token store nor a folder of them; a suite's lie at SOURCE/DOMAIN")
    return domains

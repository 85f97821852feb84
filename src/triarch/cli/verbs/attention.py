"""`triarch attention`: what a model's attention matrices are like."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from triarch.cli.views.model_tables import (
    add_model_arguments,
    model_facts,
    numbers_of,
    open_models,
    save_panels,
    write_table,
)
from triarch.cli.views.text_table import aligned, decimals
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.data.store import TokenStore
    from triarch.evaluation.attention import AttentionSummary

_TOKENS = "tokens.csv"

HELP = """Locality, entropy and rank of attention matrices, averaged over windows, and maps of one window.

  locality         attention mass on the 5 nearest tokens (arXiv 2510.26622): a query's own place and the 4 before it
                   under a causal mask, 2 on each side without one; also by the query's position ("locality decay")
  entropy          of a query's distribution over keys, in nats, beside that of an even one under the same mask
  query dependence mutual information of query and key, in nats: 0 where all queries look at the same keys, the
                   vertical stripes of cross-attention
  effective rank   exp of the entropy of the singular values divided by their sum (Roy & Vetterli, EUSIPCO 2007), beside
                   that of even attention under the same mask: 1 without one, more under a causal mask
  numerical rank   singular values above a share (--rank_threshold) of the largest

An encoder-decoder reads the first half of a window in its encoder and the rest in its decoder; the others read all of
it. The store must be of the model's vocabulary and in the layout "windows"; with --length its windows are joined."""
EXAMPLE = "triarch attention --model=runs/redllm --model=runs/decllm --store=stores/code --output=study/analysis"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch attention`."""
    add_model_arguments(
        parser,
        "for attention.csv (a head a row), locality.csv, keys.csv, map-*.csv, tokens.csv (of the maps) and the figures "
        "(.svg, .pdf, .png)",
    )
    add = parser.add_argument
    add("--length", type=int, help="tokens of a window (default: the store's)")
    add("--max_windows", type=int, default=16, help="windows to average over, a random sample (default: %(default)s)")
    add("--batch_size", type=int, default=4, help="windows computed at once (default: %(default)s)")
    add("--locality_window", type=int, default=5, help="tokens that count as near (default: %(default)s)")
    add("--rank_threshold", type=float, default=1e-3, help="of the numerical rank (default: %(default)s)")
    add("--layers", help="of the maps, as 0,5 (default: the first, the middle and the last)")
    add("--heads", help="of the maps, as 0,1 (default: the first four)")
    add("--example", type=int, default=0, help="window that the maps show (default: %(default)s)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Looks at every model; writes tables and figures, and prints the means of layers.

    Raises:
      UserError: a model or the store is missing or damaged, does not fit the others or is too short, or a flag is out
        of range.
    """
    layers, heads = (numbers_of(name, getattr(args, name)) for name in ("layers", "heads"))
    store, models = open_models(args)
    from triarch.evaluation.attention import AttentionOptions, analyse

    options = AttentionOptions(
        args.split,
        args.length,
        args.max_windows,
        args.batch_size,
        args.locality_window,
        args.rank_threshold,
        layers,
        heads,
        args.example,
    )
    options.check()
    found = {}
    for name, model in models:
        found[name] = model_facts(name, model), analyse(model, store, options, show_progress=True)
    _write(args.output, found)
    write_table(args.output / _TOKENS, _token_rows(store, found))
    _print({name: seen for name, (_, seen) in found.items()})
    return {
        "store": str(args.store),
        "split": args.split,
        "rank_threshold": args.rank_threshold,
        "locality_window": args.locality_window,
        "models": [facts | {"heads": [dataclasses.asdict(h) for h in seen.heads]} for facts, seen in found.values()],
    }


def _write(output: Path, found: dict[str, tuple[dict[str, Any], AttentionSummary]]) -> None:
    from triarch.report.attention_figures import HEADS, KEYS, LOCALITY, MAPS, attention_panels

    for old in output.glob(MAPS):
        old.unlink()
    for table, column, field in ((LOCALITY, "locality", "locality"), (KEYS, "mass", "keys")):
        rows = [
            {"model": name, "kind": site.kind, "layer": site.layer, "position": place, column: float(value)}
            for name, (_, seen) in found.items()
            for site, values in getattr(seen, field).items()
            for place, value in enumerate(values)
        ]
        if rows:
            write_table(output / table, rows)
        else:
            (output / table).unlink(missing_ok=True)
    write_table(
        output / HEADS, [facts | dataclasses.asdict(head) for facts, seen in found.values() for head in seen.heads]
    )
    for name, (_, seen) in found.items():
        for kind in dict.fromkeys(site.kind for site, _ in seen.maps):
            write_table(output / MAPS.replace("*", f"{name}-{kind}"), _map_rows(seen, kind))
    save_panels(attention_panels(output), output)


def _token_rows(store: TokenStore, found: dict[str, tuple[dict[str, Any], AttentionSummary]]) -> list[dict[str, Any]]:
    """Returns what stands at each place of a map's axes; text where the store's vocabulary can be read."""
    try:
        from triarch.tokenizers import load_tokenizer

        decode = load_tokenizer(store).decode
    except (ImportError, UserError):  # The numbers do not depend on it.
        decode = None
    return [
        {"model": name, "side": side, "position": place, "token": int(token)}
        | {"text": None if decode is None else decode([int(token)])}
        for name, (_, seen) in found.items()
        for side, tokens in seen.tokens.items()
        for place, token in enumerate(tokens)
    ]


def _map_rows(seen: AttentionSummary, kind: str) -> list[dict[str, Any]]:
    return [
        {"layer": site.layer, "head": head, "query": query}
        | {f"key_{key}": f"{weight:.4g}" for key, weight in enumerate(weights)}
        for (site, head), matrix in seen.maps.items()
        if site.kind == kind
        for query, weights in enumerate(matrix)
    ]


def _print(found: dict[str, AttentionSummary]) -> None:
    columns = (
        "locality",
        "entropy",
        "uniform_entropy",
        "query_dependence",
        "effective_rank",
        "uniform_rank",
        "numerical_rank",
        "full_rank",
    )
    rows = []
    for name, seen in found.items():
        for kind, layer in dict.fromkeys((head.kind, head.layer) for head in seen.heads):
            own = [head for head in seen.heads if (head.kind, head.layer) == (kind, layer)]
            cells = [_mean([getattr(head, column) for head in own]) for column in columns]
            rows.append((name, kind, str(layer), *cells))
    header = ("model", "attention", "layer", *(column.replace("_", " ") for column in columns))
    print(aligned(header, rows, words=2))


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return decimals(float(np.mean(known)) if len(known) == len(values) else None, 3)

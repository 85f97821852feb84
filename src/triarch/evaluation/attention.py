"""What a model's attention matrices are like: local or not, even or not, of high or low rank; some of them whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from triarch.data.features import Features
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.evaluation import matrices
from triarch.evaluation import scoring as scorings
from triarch.evaluation.joined import JoinedWindows, join_windows
from triarch.evaluation.observing import AttentionSite, Kind, Observation, observed, sites
from triarch.evaluation.sampling import draw
from triarch.evaluation.store_sums import check_finite, check_vocabulary
from triarch.fields import Size, check_options
from triarch.interchange import LoadedModel
from triarch.models import Transformer
from triarch.objectives import SpecialTokens
from triarch.progress import Progress

# Measures of each head on each window.
MEASURES = ("locality", "entropy", "query_dependence", "effective_rank", "numerical_rank")


@dataclasses.dataclass(frozen=True)
class AttentionOptions:
    """What is looked at.

    Attributes:
      split: of the store.
      length: tokens a window; None means the store's.
      max_windows: how many of the split's windows are averaged over; a random sample, the same for every model.
      batch_size: windows computed at once.
      locality_window: tokens that count as near (arXiv 2510.26622: 5).
      rank_threshold: singular values above this share of the largest count for the numerical rank.
      layers: of which maps are kept; None means the first, the middle and the last.
      heads: of which maps are kept, and as many as there are.
      example: window whose maps are kept.
    """

    split: str = "validation"
    length: Size | None = None
    max_windows: Size = 16
    batch_size: Size = 4
    locality_window: Size = 5
    rank_threshold: float = 1e-3
    layers: Sequence[int] | None = None
    heads: Sequence[int] | None = None
    example: int = 0

    def check(self) -> None:
        """Raises UserError, naming the flag, for an option that is out of range."""
        check_options(self)
        if not 1e-5 <= self.rank_threshold < 1:
            # Below, float32 counts rounding.
            raise UserError(f"--rank_threshold={self.rank_threshold:g}: expected from 1e-5 to less than 1")


@dataclasses.dataclass(frozen=True)
class HeadMeasures:
    """One head, averaged over windows.

    Attributes:
      kind, layer, head: which; see `observing.AttentionSite`.
      locality: mean attention mass on the nearest tokens; None in cross-attention, where none is near.
      entropy: of a query's distribution over keys, nats; mean over queries.
      query_dependence: mutual information of query and key, nats; 0 for vertical stripes.
      effective_rank: exp of the entropy of normalised singular values (Roy & Vetterli 2007).
      numerical_rank: singular values above `rank_threshold` of the largest.
      locality_error, entropy_error, query_dependence_error, effective_rank_error, numerical_rank_error: standard errors
        over windows; None for one window.
      uniform_entropy, uniform_rank: entropy and effective rank if queries looked at all they may see alike: what the
        mask alone gives.
      full_rank: the most that a rank can be, the lesser of queries and keys.
      num_windows: averaged over.
    """

    kind: Kind
    layer: int
    head: int
    locality: float | None
    locality_error: float | None
    entropy: float
    entropy_error: float | None
    query_dependence: float
    query_dependence_error: float | None
    effective_rank: float
    effective_rank_error: float | None
    numerical_rank: float
    numerical_rank_error: float | None
    uniform_entropy: float
    uniform_rank: float
    full_rank: int
    num_windows: int


@dataclasses.dataclass(frozen=True)
class AttentionSummary:
    """What was seen of one model.

    Attributes:
      heads: measures of every head of every layer.
      locality: float64[positions] of each self-attention layer: locality by the query's position, mean over heads and
        windows.
      keys: float64[keys] of each cross-attention layer: mean attention mass by the key's position.
      maps: float32[query, key] of chosen layers and heads, for one window.
      tokens: int32[positions] that each side, "encoder" and "decoder", read of that window: those of the maps' axes.
    """

    heads: tuple[HeadMeasures, ...]
    locality: Mapping[AttentionSite, np.ndarray]
    keys: Mapping[AttentionSite, np.ndarray]
    maps: Mapping[tuple[AttentionSite, int], np.ndarray]
    tokens: Mapping[str, np.ndarray]


def analyse(
    model: LoadedModel, store: TokenStore, options: AttentionOptions | None = None, *, show_progress: bool = False
) -> AttentionSummary:
    """Looks at every attention of a model on windows of a store.

    An encoder-decoder reads the first half of a window in its encoder and the rest in its decoder, a decoder-only model
    the whole window, as paired scoring has them; an encoder reads the window as it stands.

    Args:
      model: of any architecture.
      store: in the layout "windows", of the model's vocabulary.
      options: what is looked at; the defaults when None.
      show_progress: draw a bar with the time left on stderr, where that is a terminal.

    Raises:
      UserError: the store does not fit or is too short, the model has too few positions, or an option is out
        of range.
    """
    options = options or AttentionOptions()
    options.check()
    check_vocabulary(model, store)
    chosen = _chosen(model, options)
    length = options.length or store.manifest.window
    windows = join_windows(store, options.split, length)
    numbers = draw(len(windows), options.max_windows, seed=0).tolist()
    if not 0 <= options.example < len(windows):
        raise UserError(f"--example={options.example}: there are windows 0 to {len(windows) - 1}")
    rows = _rows(model, store, length)
    example = _stacked(rows, windows, [options.example])
    shown = model.compiled(_maps(chosen))(example)
    measure = model.compiled(_measures(options))
    totals: dict[AttentionSite, list[dict[str, np.ndarray]]] = {}
    with Progress(show_progress) as progress:
        progress.start(f"attention of {model.path.name}", len(numbers))
        for batch, count in _batches(rows, windows, numbers, options.batch_size):
            for site, found in measure(batch).items():
                totals.setdefault(site, []).append({name: values[:count] for name, values in found.items()})
            progress.advance(count)
    joined = {site: _concatenated(totals[site]) for site in sites(model.config)}
    for found in joined.values():
        check_finite(found["entropy"], model, store)
    return AttentionSummary(
        heads=tuple(one for site, found in joined.items() for one in _heads(site, found, shown["uniform"][site])),
        locality={site: found["locality"].mean((0, 1)) for site, found in joined.items() if site.kind != "cross"},
        keys={site: found["keys"].mean((0, 1)) for site, found in joined.items() if site.kind == "cross"},
        maps={(site, head): shown["maps"][site][i] for site, heads in chosen.items() for i, head in enumerate(heads)},
        tokens={
            side: example[f"{side}_input_tokens"][0]
            for side in ("encoder", "decoder")
            if f"{side}_input_tokens" in example
        },
    )


def _chosen(model: LoadedModel, options: AttentionOptions) -> dict[AttentionSite, tuple[int, ...]]:
    """Returns the heads to be shown of each site to be shown."""
    config = model.config
    most = min(config.num_heads, config.of_side("decoder").num_heads)
    heads = tuple(range(min(4, most))) if options.heads is None else tuple(options.heads)
    for head in heads:
        if not 0 <= head < most:
            raise UserError(f"--heads: {model.path} has heads 0 to {most - 1}, not {head}")
    depths = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}
    deepest = max(depths.values())
    for layer in options.layers or ():
        if not 0 <= layer < deepest:
            raise UserError(f"--layers: {model.path} has layers 0 to {deepest - 1}, not {layer}")

    def is_shown(site: AttentionSite) -> bool:
        depth = depths["encoder" if site.kind == "encoder" else "decoder"]
        wanted = {0, depth // 2, depth - 1} if options.layers is None else set(options.layers)
        return site.layer in wanted

    return {site: heads for site in sites(config) if is_shown(site)}


def _rows(model: LoadedModel, store: TokenStore, length: int) -> Callable[[Mapping[str, np.ndarray]], Features]:
    """Returns the function from a window to what the model reads."""
    if model.config.architecture == "encoder-only":
        return lambda example: {
            "encoder_input_tokens": example["tokens"],
            "encoder_segment_ids": np.ones_like(example["tokens"]),
        }
    fields = model.origin.objective
    objective = scorings.paired_objective(scorings.trained_objective(fields, str(model.path)) if fields else None)
    special = SpecialTokens.from_manifest(store.manifest.vocabulary.special)
    transform = objective.bind(model.config.architecture, special, store.manifest.vocabulary.size, length).features
    return lambda example: transform(example, np.random.default_rng(0))


def _stacked(rows: Callable, windows: JoinedWindows, indices: Sequence[int]) -> Features:
    features = [rows(windows[index]) for index in indices]
    return {name: np.stack([one[name] for one in features]) for name in features[0]}


def _batches(
    rows: Callable, windows: JoinedWindows, numbers: Sequence[int], batch_size: int
) -> Iterator[tuple[Features, int]]:
    """Yields batches of one shape, and how many of their rows count."""
    size = min(batch_size, len(numbers))
    for start in range(0, len(numbers), size):
        indices = numbers[start : start + size]
        yield _stacked(rows, windows, [*indices, *[indices[-1]] * (size - len(indices))]), len(indices)


def _concatenated(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in parts[0]}


def _measures(options: AttentionOptions) -> Callable[[Transformer, Mapping[str, jax.Array]], dict]:
    def one(site: AttentionSite, observation: Observation) -> dict[str, jax.Array]:
        weights, values = observation.weights, matrices.singular_values(observation.weights)
        measured = {
            "entropy": jnp.mean(matrices.entropy(weights), axis=-1),
            "query_dependence": matrices.query_dependence(weights),
            "effective_rank": matrices.effective_rank(values),
            "numerical_rank": matrices.numerical_rank(values, options.rank_threshold),
        }
        if site.kind == "cross":
            return measured | {"keys": jnp.mean(weights, axis=-2)}
        return measured | {"locality": matrices.locality(weights, options.locality_window, observation.mask.causal)}

    return lambda model, batch: {site: one(site, seen) for site, seen in observed(model, batch).items()}


def _maps(chosen: Mapping[AttentionSite, Sequence[int]]) -> Callable[[Transformer, Mapping[str, jax.Array]], dict]:
    def uniform(observation: Observation) -> dict[str, jax.Array]:
        queries, keys = observation.weights.shape[-2:]
        allowed = observation.mask.dense(queries, keys)
        seen = jnp.ones((queries, keys), bool) if allowed is None else allowed[0, 0]
        weights = matrices.uniform(seen)
        rank = matrices.effective_rank(matrices.singular_values(weights))
        return {
            "uniform_entropy": jnp.mean(matrices.entropy(weights)),
            "uniform_rank": rank,
            "full_rank": jnp.int32(min(queries, keys)),
        }

    def function(model: Transformer, batch: Mapping[str, jax.Array]) -> dict:
        seen = observed(model, batch)
        maps = {site: seen[site].weights[0, np.array(heads, np.int32)] for site, heads in chosen.items()}
        return {"maps": maps, "uniform": {site: uniform(observation) for site, observation in seen.items()}}

    return function


def _heads(
    site: AttentionSite, found: Mapping[str, np.ndarray], uniform: Mapping[str, np.ndarray]
) -> Iterator[HeadMeasures]:
    by_window = {name: found[name] for name in MEASURES if name in found}
    if "locality" in by_window:
        by_window["locality"] = by_window["locality"].mean(axis=-1)
    count, num_heads = by_window["entropy"].shape
    for head in range(num_heads):
        numbers: dict[str, Any] = dict.fromkeys(m for name in MEASURES for m in (name, f"{name}_error"))
        for name, values in by_window.items():
            own = values[:, head]
            numbers[name] = float(own.mean())
            numbers[f"{name}_error"] = float(own.std(ddof=1) / np.sqrt(count)) if count > 1 else None
        references: dict[str, Any] = {name: value.item() for name, value in uniform.items()}
        yield HeadMeasures(kind=site.kind, layer=site.layer, head=head, **numbers, **references, num_windows=count)

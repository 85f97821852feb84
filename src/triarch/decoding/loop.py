"""The decoding loop on the device: a token is read, the next one chosen, until all rows have stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
from jaxtyping import Array, Float, Int

from triarch.decoding.rows import Rows
from triarch.decoding.sampling import Sampler
from triarch.decoding.stopping import Stops
from triarch.models import Transformer
from triarch.models.assemblies import Decoding
from triarch.models.attention.cache import Cache


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LoopState:
    """A batch between two steps.

    Attributes:
      cache: of all tokens but the last.
      tokens: new ones, after `Stops.longest` columns of nothing.
      rows: how far they are.
    """

    cache: Cache
    tokens: Int[Array, "batch columns"]
    rows: Rows


def begin(
    model: Decoding,
    batch: dict[str, jax.Array],
    numbers: Int[Array, " batch"],
    sampler: Sampler,
    stops: Stops,
    new_tokens: int,
) -> LoopState:
    """Reads prompts and chooses the first new tokens.

    Args:
      model: one with a decoder.
      batch: prompts as `Decoding.prefill` takes them.
      numbers: of each row among all prompts; -1 for a row that only fills the batch.
      sampler: chooses.
      stops: what ends a row.
      new_tokens: room for new tokens.
    """
    hidden, cache = model.prefill(batch, batch["decoder_input_tokens"].shape[1] + new_tokens)
    progress = LoopState(cache, stops.empty(len(numbers), new_tokens), Rows.begin(numbers))
    return _chosen(progress, next_logits(model, hidden), sampler, stops)


def proceed(
    network: Callable[[], Decoding], progress: LoopState, sampler: Sampler, stops: Stops, until: Int[Array, ""]
) -> LoopState:
    """Chooses tokens until rows have `until` of them, or all have stopped; `network` is made within the loop."""

    def one_more(progress: LoopState) -> LoopState:
        newest = jax.lax.dynamic_slice_in_dim(progress.tokens, progress.rows.step + stops.longest - 1, 1, axis=1)
        model = network()
        hidden, cache = model.extend(newest, progress.cache)
        return _chosen(dataclasses.replace(progress, cache=cache), next_logits(model, hidden), sampler, stops)

    return jax.lax.while_loop(lambda progress: progress.rows.unfinished(until), one_more, progress)


def next_logits(model: Transformer, hidden: Float[Array, "batch length d_model"]) -> Float[Array, "batch vocab"]:
    """Returns logits of the token after the last column."""
    return model.unembedding().logits(hidden[:, -1])


def _chosen(progress: LoopState, logits: Float[Array, "batch vocab"], sampler: Sampler, stops: Stops) -> LoopState:
    rows = progress.rows
    token = sampler.choose(logits, rows.numbers, rows.step)
    tokens = jax.lax.dynamic_update_slice_in_dim(progress.tokens, token[:, None], rows.step + stops.longest, axis=1)
    last = jax.lax.dynamic_slice_in_dim(tokens, rows.step + 1, stops.longest, axis=1)
    return dataclasses.replace(progress, tokens=tokens, rows=rows.after(last, stops))

"""The decoding loop on the device: a token is read, the next one chosen, until all rows have stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from triarch.decoding.sampling import Sampler
from triarch.decoding.stopping import Stops
from triarch.models import Transformer
from triarch.models.cache import Cache


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Progress:
    """Rows in the making.

    Attributes:
      cache: of all tokens but the last.
      tokens: new ones, after `Stops.longest` columns of nothing.
      rows: number of each row among all prompts.
      step: new tokens so far.
      lengths: new tokens of each row, without its stop sequence.
      stopped: rows that need no more.
    """

    cache: Cache
    tokens: Int[Array, "batch columns"]
    rows: Int[Array, " batch"]
    step: Int[Array, ""]
    lengths: Int[Array, " batch"]
    stopped: Bool[Array, " batch"]


def begin(
    model: Transformer,
    batch: dict[str, jax.Array],
    rows: Int[Array, " batch"],
    sampler: Sampler,
    stops: Stops,
    new_tokens: int,
) -> Progress:
    """Reads prompts and chooses the first new tokens.

    Args:
      model: one with a decoder.
      batch: prompts as `Decoding.prefill` takes them.
      rows: number of each row among all prompts; -1 for a row that only fills the batch.
      sampler: chooses.
      stops: stop sequences.
      new_tokens: room for new tokens.
    """
    hidden, cache = model.prefill(batch, batch["decoder_input_tokens"].shape[1] + new_tokens)
    nothing = jnp.zeros(len(rows), jnp.int32)
    progress = Progress(cache, stops.empty(len(rows), new_tokens), rows, jnp.int32(0), nothing, rows < 0)
    return _chosen(progress, next_logits(model, hidden), sampler, stops)


def proceed(
    network: Callable[[], Transformer], progress: Progress, sampler: Sampler, stops: Stops, until: Int[Array, ""]
) -> Progress:
    """Chooses tokens until rows have `until` of them, or all have stopped; `network` is made within the loop."""

    def unfinished(progress: Progress) -> Array:
        return (progress.step < until) & ~jnp.all(progress.stopped)

    def one_more(progress: Progress) -> Progress:
        newest = jax.lax.dynamic_slice_in_dim(progress.tokens, progress.step + stops.longest - 1, 1, axis=1)
        model = network()
        hidden, cache = model.extend(newest, progress.cache)
        return _chosen(dataclasses.replace(progress, cache=cache), next_logits(model, hidden), sampler, stops)

    return jax.lax.while_loop(unfinished, one_more, progress)


def next_logits(model: Transformer, hidden: Float[Array, "batch length d_model"]) -> Float[Array, "batch vocab"]:
    """Returns logits of the token after the last column."""
    return model.unembedding().logits(hidden[:, -1])


def _chosen(progress: Progress, logits: Float[Array, "batch vocab"], sampler: Sampler, stops: Stops) -> Progress:
    token = sampler.choose(logits, progress.rows, progress.step)
    column = progress.step + stops.longest
    tokens = jax.lax.dynamic_update_slice_in_dim(progress.tokens, token[:, None], column, axis=1)
    last = jax.lax.dynamic_slice_in_dim(tokens, progress.step + 1, stops.longest, axis=1)
    hit, length = stops.matched(last)
    return dataclasses.replace(
        progress,
        tokens=tokens,
        step=progress.step + 1,
        lengths=jnp.where(progress.stopped, progress.lengths, progress.step + 1 - length),
        stopped=progress.stopped | hit,
    )

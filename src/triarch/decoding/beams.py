"""Beam search on the device, step for step as Hugging Face's `generate` does it (early_stopping=False).

A beam's score is the sum of its tokens' log-probabilities. One that ends after n new tokens, as a stop sequence or a
stop text has it or for want of room, competes with score / n^length_penalty. Every step looks at the best
max(2, 1 + stop tokens) * beams continuations, where stop sequences of several tokens and stop texts do not count: those
among the first `beams` that end may take a place among the finished, the best that do not end go on. A prompt is done
when its best running beam, scored as though it ended now, is no better than the worst finished.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from triarch.decoding.sampling import Forced
from triarch.decoding.settings import GenerationSettings
from triarch.decoding.stopping import Stops
from triarch.models.assemblies import Decoding
from triarch.models.attention.cache import Cache

# What takes a beam out of the race; finite, so that differences stay defined.
_OUT = -1e9


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BeamRules:
    """What beam search takes from `GenerationSettings`.

    Attributes:
      stops: what ends a beam.
      length_penalty: see `GenerationSettings`.
      forced: tokens that are not chosen.
      max_new_tokens: after which beams end anyway.
      beams: running side by side.
      candidates: continuations looked at in each step.
    """

    stops: Stops
    length_penalty: Float[Array, ""]
    forced: Forced
    max_new_tokens: Int[Array, ""]
    beams: int = dataclasses.field(metadata={"static": True})
    candidates: int = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, settings: GenerationSettings, stops: Stops) -> BeamRules:
        """Takes what concerns the search."""
        penalty, most = jnp.float32(settings.length_penalty), jnp.int32(settings.max_new_tokens)
        candidates = max(2, 1 + settings.num_single_stops) * settings.num_beams
        return cls(stops, penalty, Forced.of(settings), most, settings.num_beams, candidates)

    def penalised(self, scores: Float[Array, "..."], length: Int[Array, ""]) -> Float[Array, "..."]:
        """Returns what beams of `length` new tokens are worth, once finished."""
        return scores / length.astype(jnp.float32) ** self.length_penalty


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Beams:
    """Beams of each prompt, best first.

    Attributes:
      tokens: new ones, after `Stops.longest` columns of nothing.
      scores: log-probabilities; of finished beams, penalised.
      lengths: new tokens without the stop sequence.
      texts: states in `Stops.texts`.
      real: whether there is such a beam at all.
    """

    tokens: Int[Array, "batch beams columns"]
    scores: Float[Array, "batch beams"]
    lengths: Int[Array, "batch beams"]
    texts: Int[Array, "batch beams"]
    real: Bool[Array, "batch beams"]

    def best(self, count: int) -> tuple[Beams, Int[Array, "batch count"]]:
        """Returns the `count` beams of the highest scores, and which they were."""
        _, chosen = jax.lax.top_k(self.scores, count)
        return self.chosen(chosen), chosen

    def chosen(self, indices: Int[Array, "batch count"]) -> Beams:
        """Returns beams by their numbers."""
        return jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, _expanded(indices, leaf.ndim), axis=1), self)

    def with_others(self, others: Beams) -> Beams:
        """Returns both kinds side by side."""
        return jax.tree.map(lambda one, other: jnp.concatenate([one, other], axis=1), self, others)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Search:
    """A beam search between two steps.

    Attributes:
      cache: rows are beams, those of a prompt side by side.
      running: beams that go on.
      finished: the best that have ended.
      open: prompts whose finished beams may still improve.
      step: new tokens so far.
      stuck: whether no candidate of any prompt goes on.
    """

    cache: Cache
    running: Beams
    finished: Beams
    open: Bool[Array, " batch"]
    step: Int[Array, ""]
    stuck: Bool[Array, ""]


def search(network: Callable[[], Decoding], batch: dict[str, jax.Array], new_tokens: int, rules: BeamRules) -> Beams:
    """Returns the finished beams of each prompt, best first.

    Args:
      network: makes a model with a decoder, within the loop.
      batch: prompts as `Decoding.prefill` takes them.
      new_tokens: room for new tokens; at least `rules.max_new_tokens`.
      rules: of the search.
    """
    model = network()
    hidden, cache = model.prefill(batch, batch["decoder_input_tokens"].shape[1] + new_tokens)
    prompts = len(hidden)
    every_beam = jnp.repeat(jnp.arange(prompts), rules.beams)
    shape = prompts, rules.beams
    nothing = Beams(
        tokens=rules.stops.empty(*shape, new_tokens),
        scores=jnp.full(shape, _OUT, jnp.float32),
        lengths=jnp.zeros(shape, jnp.int32),
        texts=jnp.zeros(shape, jnp.int32),
        real=jnp.zeros(shape, bool),
    )
    # At first all beams of a prompt are the same: only one of them counts.
    first = dataclasses.replace(nothing, scores=nothing.scores.at[:, 0].set(0.0))
    everything = jnp.ones(prompts, bool)
    begun = Search(cache.rows(every_beam), first, nothing, everything, jnp.int32(0), jnp.bool_(False))
    begun = _advanced(model, begun, model.next_logits(hidden)[every_beam], rules)

    def unfinished(search: Search) -> Array:
        return jnp.any(search.open) & ~search.stuck

    def one_more(search: Search) -> Search:
        column = search.step + rules.stops.longest - 1
        newest = jax.lax.dynamic_slice_in_dim(search.running.tokens, column, 1, axis=2).reshape(-1, 1)
        model = network()
        hidden, cache = model.extend(newest, search.cache)
        return _advanced(model, dataclasses.replace(search, cache=cache), model.next_logits(hidden), rules)

    return jax.lax.while_loop(unfinished, one_more, begun).finished


def _advanced(model: Decoding, search: Search, logits: Float[Array, "rows vocab"], rules: BeamRules) -> Search:
    candidates, parents = _candidates(search, logits, rules)
    length = search.step + 1
    last = jax.lax.dynamic_slice_in_dim(candidates.tokens, length, rules.stops.longest, axis=2)
    stopped, left_out, texts = rules.stops.ended(last, candidates.texts)
    candidates = dataclasses.replace(candidates, texts=texts)
    ends = stopped | (length >= rules.max_new_tokens)
    running, chosen = dataclasses.replace(candidates, scores=candidates.scores + jnp.where(ends, _OUT, 0)).best(
        rules.beams
    )
    finished = _finished(search, candidates, ends, length - left_out, rules)
    parents = jnp.take_along_axis(parents, chosen, axis=1)
    rows = (jnp.arange(len(parents))[:, None] * rules.beams + parents).reshape(-1)
    best_possible = rules.penalised(running.scores[:, :1], length)
    worst = jnp.where(finished.real, jnp.min(finished.scores, axis=1, keepdims=True), _OUT)
    return Search(
        cache=model.reorder(search.cache, rows),
        running=running,
        finished=finished,
        open=search.open & jnp.any(best_possible > worst, axis=1),
        step=length,
        stuck=jnp.all(ends),
    )


def _candidates(
    search: Search, logits: Float[Array, "rows vocab"], rules: BeamRules
) -> tuple[Beams, Int[Array, "batch candidates"]]:
    """Returns the best continuations by one token, and the beams they continue."""
    vocab_size = logits.shape[-1]
    running = search.running
    logits = rules.forced.only(logits.astype(jnp.float32), search.step)
    scores = jax.nn.log_softmax(logits).reshape(*running.scores.shape, vocab_size)
    scores = (scores + running.scores[..., None]).reshape(len(running.scores), -1)
    scores, indices = jax.lax.top_k(scores, rules.candidates)
    parents, newest = indices // vocab_size, indices % vocab_size
    continued = running.chosen(parents)
    column = search.step + rules.stops.longest
    tokens = jax.lax.dynamic_update_slice_in_dim(continued.tokens, newest[..., None], column, axis=2)
    return dataclasses.replace(continued, tokens=tokens, scores=scores), parents


def _finished(
    search: Search,
    candidates: Beams,
    ends: Bool[Array, "batch candidates"],
    lengths: Int[Array, "batch candidates"],
    rules: BeamRules,
) -> Beams:
    """Returns the best finished beams, those that end now included."""
    takes_part = ends & (jnp.arange(rules.candidates) < rules.beams)
    scores = rules.penalised(candidates.scores, search.step + 1)
    scores += jnp.where(search.open, 0, _OUT)[:, None] + jnp.where(takes_part, 0, _OUT)
    ended = dataclasses.replace(candidates, scores=scores, lengths=lengths, real=takes_part)
    return search.finished.with_others(ended).best(rules.beams)[0]


def _expanded(indices: Int[Array, "batch count"], ndim: int) -> Array:
    return indices.reshape(*indices.shape, *[1] * (ndim - 2))

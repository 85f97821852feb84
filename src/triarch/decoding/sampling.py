"""From logits to a token: the likeliest one, or one drawn from what the filters leave."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from triarch.decoding.settings import GenerationSettings


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Forced:
    """Tokens that stand at certain places whatever the model makes of them, each None for its own choice.

    Attributes:
      first: of every row.
      last: of rows that are `length` tokens long.
      length: new tokens of a row at most.
    """

    first: Int[Array, ""] | None
    last: Int[Array, ""] | None
    length: Int[Array, ""]

    @classmethod
    def of(cls, settings: GenerationSettings) -> Forced:
        """Takes what concerns them."""
        first, last = (
            None if token is None else jnp.int32(token) for token in (settings.first_token, settings.last_token)
        )
        return cls(first, last, jnp.int32(settings.max_new_tokens))

    def only(self, logits: Float[Array, "batch vocab"], step: Int[Array, ""]) -> Float[Array, "batch vocab"]:
        """Returns logits that leave nothing but the token which stands at `step`; unchanged if there is none."""
        for token, place in ((self.first, 0), (self.last, self.length - 1)):
            if token is not None:
                one = jnp.where(jnp.arange(logits.shape[-1]) == token, 0.0, -jnp.inf).astype(logits.dtype)
                logits = jnp.where(step == place, one, logits)
        return logits


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sampler:
    """`GenerationSettings` as a compiled program takes them: numbers may change, which filters there are may not.

    Attributes:
      seed: of all draws.
      forced: tokens that are not chosen.
      temperature: None for the likeliest token.
      top_k: see `GenerationSettings`; None: no such filter.
      top_p: likewise.
      min_p: likewise.
    """

    seed: Int[Array, ""]
    forced: Forced
    temperature: Float[Array, ""] | None
    top_k: Int[Array, ""] | None
    top_p: Float[Array, ""] | None
    min_p: Float[Array, ""] | None

    @classmethod
    def of(cls, settings: GenerationSettings, vocab_size: int) -> Sampler:
        """Takes what concerns sampling."""

        def number(value: float | None) -> Array | None:
            return None if value is None else jnp.float32(value)

        top_k = None if settings.top_k is None else jnp.int32(min(settings.top_k, vocab_size))
        temperature = number(settings.temperature) if settings.samples else None
        filters = temperature, top_k, number(settings.top_p), number(settings.min_p)
        return cls(jnp.uint32(settings.seed), Forced.of(settings), *filters)

    def choose(
        self, logits: Float[Array, "batch vocab"], rows: Int[Array, " batch"], step: Int[Array, ""]
    ) -> Int[Array, " batch"]:
        """Returns a token for each row.

        Args:
          logits: of the next token.
          rows: number of each row among all prompts, so that its draws do not depend on which share its batch.
          step: tokens generated so far.
        """
        logits = self.forced.only(logits, step)
        if self.temperature is None:
            return jnp.argmax(logits, axis=-1).astype(jnp.int32)
        filtered = self.filtered(logits)
        seed = jax.random.key(self.seed)
        keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.fold_in(seed, row), step))(rows)
        return jax.vmap(jax.random.categorical)(keys, filtered).astype(jnp.int32)

    def filtered(self, logits: Float[Array, "batch vocab"]) -> Float[Array, "batch vocab"]:
        """Returns logits over the temperature, -inf where a filter leaves a token out."""
        assert self.temperature is not None
        logits = logits.astype(jnp.float32) / self.temperature
        least = jnp.full_like(logits[:, :1], -jnp.inf)
        if self.top_k is not None or self.top_p is not None:
            least = self._least_by_rank(jnp.sort(logits, axis=-1, descending=True))
        if self.min_p is not None:
            least = jnp.maximum(least, jnp.max(logits, axis=-1, keepdims=True) + jnp.log(self.min_p))
        return jnp.where(logits >= least, logits, -jnp.inf)

    def _least_by_rank(self, falling: Float[Array, "batch vocab"]) -> Float[Array, "batch 1"]:
        """Returns the least logit that top_k and then top_p keep, given logits in falling order."""
        ranks = jnp.arange(falling.shape[-1])
        kept = falling if self.top_k is None else jnp.where(ranks < self.top_k, falling, -jnp.inf)
        if self.top_p is not None:
            probabilities = jax.nn.softmax(kept, axis=-1)
            before = jnp.cumsum(probabilities, axis=-1) - probabilities
            kept = jnp.where((before < self.top_p) | (ranks == 0), kept, -jnp.inf)
        return jnp.min(jnp.where(kept == -jnp.inf, jnp.inf, kept), axis=-1, keepdims=True)

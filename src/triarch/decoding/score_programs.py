"""From a batch of `score_batches` to log-probabilities, on the device; to be compiled by `LoadedModel.compiled`."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from triarch.models import Transformer
from triarch.models.assemblies import Decoding

# Logits held at once, in numbers: 256 MiB of float32.
_LOGITS = 2**26


def joined_scores(model: Transformer, batch: Mapping[str, jax.Array]) -> Float[Array, "2 scored"]:
    """Returns the log-probability of each target, and 1 where it is the likeliest token: every row read whole.

    Args:
      model: of any architecture.
      batch: the model's features; `scored_rows`, `scored_places` and `scored_targets`, int32[scored].
    """
    return _scores(model, model.hidden(batch), batch)


def shared_scores(model: Decoding, batch: Mapping[str, jax.Array]) -> Float[Array, "2 scored"]:
    """The same where rows share contexts.

    Args:
      model: with a decoder.
      batch: the features of contexts; `context_of_row`, int32[rows]; `continuation_tokens`, int32[rows, width], if
        any row goes on after its context. Place 0 is the last token before the continuation.
    """
    continuations = batch.get("continuation_tokens")
    width = 0 if continuations is None else continuations.shape[1]
    hidden, cache = model.prefill(batch, batch["decoder_input_tokens"].shape[1] + width)
    states = jnp.take(hidden[:, -1:], batch["context_of_row"], axis=0)
    if continuations is not None:
        further, _ = model.extend(continuations, cache.rows(batch["context_of_row"]))
        states = jnp.concatenate([states, further], axis=1)
    return _scores(model, states, batch)


def _scores(
    model: Transformer, hidden: Float[Array, "rows length d_model"], batch: Mapping[str, jax.Array]
) -> Float[Array, "2 scored"]:
    states = hidden[batch["scored_rows"], batch["scored_places"]]
    unembedding = model.unembedding()

    def one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        state, target = pair
        logits = unembedding.logits(state)
        log_probability = logits[target] - jax.nn.logsumexp(logits)
        return jnp.stack([log_probability, (jnp.argmax(logits) == target).astype(logits.dtype)])

    size = max(1, _LOGITS // model.config.vocab_size)
    return jax.lax.map(one, (states, batch["scored_targets"]), batch_size=size).T

"""From a model and a batch of features to a loss."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from triarch.models import Transformer
from triarch.models.assemblies import Batch
from triarch.objectives import cross_entropy as xent
from triarch.objectives.spread import spread_of
from triarch.objectives.sums import Sums, WeightedSum


def loss_fn(
    model: Transformer,
    batch: Batch,
    *,
    z_loss: float,
    chunk: int,
    num_scored: int | None = None,
    key: jax.Array | None = None,
) -> tuple[Float[Array, ""], Sums]:
    """Returns the batch's summed loss, not normalised, and what it is made of: loss, accuracy and penalties.

    Args:
      model: the network.
      batch: features with targets and weights.
      z_loss: coefficient of (log Z)^2.
      chunk: positions of each row whose logits are held at once; 0 means all.
      num_scored: at most this many targets of each row have weight: logits of the others are left out.
      key: a random key for each row, for dropout; None: nothing is left out.
    """
    added: dict[str, jax.Array] = {}
    hidden = model.hidden(batch, key, added)
    targets, weights = scored_features(batch)
    if num_scored is not None and num_scored < targets.shape[1]:
        _, scored = jax.lax.top_k((weights > 0).astype(jnp.int32), num_scored)
        hidden = jnp.take_along_axis(hidden, scored[..., None], axis=1)
        targets, weights = (jnp.take_along_axis(x, scored, axis=1) for x in (targets, weights))
    total, parts = xent.cross_entropy(hidden, model.unembedding(), targets, weights, z_loss, chunk, spread_of(model))
    by_weight = functools.partial(WeightedSum, weight=parts.weight_sum)
    # Means of the batch: they count as often as its targets.
    added = {name: value * parts.weight_sum for name, value in added.items()}
    return total + sum(added.values()), Sums(
        measures={"loss": by_weight(parts.loss_sum), "accuracy": by_weight(parts.correct_sum)},
        penalties={"z_loss": by_weight(parts.z_loss_sum), **{name: by_weight(value) for name, value in added.items()}},
    )


def token_losses(model: Transformer, batch: Batch, *, chunk: int) -> Float[Array, "batch length"]:
    """Returns the cross-entropy of every target token in nats, whatever its weight."""
    targets, _ = scored_features(batch)
    return xent.token_losses(model.hidden(batch), model.unembedding(), targets, chunk)


def scored_features(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Returns targets and loss weights of the side that is scored."""
    side = "decoder" if "decoder_target_tokens" in batch else "encoder"
    return batch[f"{side}_target_tokens"], batch[f"{side}_loss_weights"]

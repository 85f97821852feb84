"""A teacher beside the network, and the loss against its logits, which are never held whole."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from triarch.models import Execution, ModelConfig, Transformer, build
from triarch.models.assemblies import Batch
from triarch.objectives.base import LossOptions
from triarch.objectives.cross_entropy import _chunk_size, _chunked
from triarch.objectives.losses import scored_features
from triarch.objectives.sums import Sums, WeightedSum


class Teacher(nnx.Module):
    """Holds the teacher, so that its parameters are named `head/network/...`."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.network = build(config, Execution(), rngs)


@dataclasses.dataclass(frozen=True)
class TeacherHead:
    """Makes a teacher as the head of a network.

    Attributes:
      config: the teacher.
      is_frozen: training neither changes nor keeps such a head.
    """

    config: ModelConfig
    is_frozen: bool = True

    def __call__(self, config: ModelConfig, rngs: nnx.Rngs) -> Teacher:
        return Teacher(self.config, rngs)


def distillation_loss(
    model: Transformer,
    batch: Batch,
    teachers: Batch,
    temperature: float,
    weight: float,
    options: LossOptions,
    num_scored: int,
    key: jax.Array | None = None,
) -> tuple[jax.Array, Sums]:
    """Returns the summed loss of a batch, and what it is made of.

    Args:
      model: the network, its head a `Teacher`.
      batch: features that it reads.
      teachers: features that the teacher reads, with as many targets of weight, in the same order.
      temperature: of both distributions.
      weight: of the divergence from the teacher; the rest is that of the cross-entropy.
      options: z-loss and chunks.
      num_scored: at most this many targets of each row have weight.
      key: a random key for each row, for dropout; None: nothing is left out.
    """
    added: dict[str, jax.Array] = {}
    assert isinstance(model.head, Teacher)
    teacher = model.head.network
    hidden, targets, weights = _scored(model.hidden(batch, key, added), batch, num_scored)
    theirs, *_ = _scored(jax.lax.stop_gradient(teacher.hidden(teachers)), teachers, num_scored)
    own_map, their_map = model.unembedding(), jax.lax.stop_gradient(teacher.unembedding())

    @jax.checkpoint
    def one(chunk: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        states, their_states, target, of_target = chunk
        logits, wanted = own_map.logits(states), their_map.logits(their_states)
        log_z = jax.nn.logsumexp(logits, axis=-1)
        target_logit = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
        log_p, log_q = (jax.nn.log_softmax(x / temperature) for x in (wanted, logits))
        divergence = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
        parts = log_z - target_logit, divergence, options.z_loss * log_z**2, target_logit >= jnp.max(logits, axis=-1)
        return tuple(jnp.sum(of_target * part) for part in parts)

    size = _chunk_size(options.chunk, targets.shape[1])
    chunks = tuple(_chunked(x, size) for x in (hidden, theirs, targets, weights))
    cross_entropy, divergence, z_loss, correct = jax.tree.map(jnp.sum, jax.lax.map(one, chunks))
    total_weight = jnp.sum(weights)
    by_weight = functools.partial(WeightedSum, weight=total_weight)
    added = {name: value * total_weight for name, value in added.items()}
    total = weight * temperature**2 * divergence + (1 - weight) * cross_entropy + z_loss + sum(added.values())
    return total, Sums(
        measures={
            "loss": by_weight(cross_entropy),
            "accuracy": by_weight(correct),
            "teacher_kl": by_weight(divergence),
        },
        penalties={"z_loss": by_weight(z_loss), **{name: by_weight(value) for name, value in added.items()}},
    )


def _scored(states: jax.Array, batch: Batch, num_scored: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns states, targets and weights of the places that count, the first of each row first."""
    targets, weights = scored_features(batch)
    _, places = jax.lax.top_k((weights > 0).astype(jnp.int32), min(num_scored, targets.shape[1]))
    targets, weights = (jnp.take_along_axis(x, places, axis=1) for x in (targets, weights))
    return jnp.take_along_axis(states, places[..., None], axis=1), targets, weights

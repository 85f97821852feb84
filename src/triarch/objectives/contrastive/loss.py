"""The losses of groups of texts: vectors of a batch, some texts at a time, and what their similarities are to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from triarch.models.pooling import normalized, pooled
from triarch.objectives.sums import Sums, WeightedSum

if TYPE_CHECKING:
    from triarch.models import Transformer
    from triarch.objectives.contrastive.contrast import Contrast
    from triarch.objectives.contrastive.groups import TextGroups
    from triarch.objectives.contrastive.margin_mse import MarginMSE


def ranking_loss(
    model: Transformer, batch: Mapping[str, jax.Array], key: jax.Array | None, objective: Contrast
) -> tuple[jax.Array, Sums]:
    """Returns the summed cross-entropy of the queries of a batch, and what it is made of.

    Args:
      model: of any architecture.
      batch: features of `Contrast`.
      key: a random key for each example, for dropout; None: nothing is left out.
      objective: pooling, similarity, temperature and so on.
    """
    rows, group = batch["passage_input_tokens"].shape[:2]
    queries, passages = group_vectors(model, batch, key, objective)
    exact = jax.lax.Precision.HIGHEST
    logits = jnp.einsum("qd,pd->qp", queries, passages, precision=exact) / objective.temperature
    own = jnp.arange(rows) * group
    masked = _false_negatives(batch["query_hash"], batch["passage_hash"])
    logits = jnp.where(masked, -jnp.inf, logits)
    losses, is_first = _cross_entropy(logits, own)
    if objective.symmetric:
        # From passages to queries: the hard negatives answer none.
        back = logits[:, own].T
        losses = (losses + _cross_entropy(back, jnp.arange(rows))[0]) / 2
    weight = jnp.float32(rows)
    total = losses.sum()
    return total, Sums({"loss": WeightedSum(total, weight), "accuracy": WeightedSum(is_first.sum(), weight)})


def margin_loss(
    model: Transformer, batch: Mapping[str, jax.Array], key: jax.Array | None, objective: MarginMSE
) -> tuple[jax.Array, Sums]:
    """Returns the summed squared difference of a batch's margins and its teacher's, and what it is made of.

    Args:
      model: of any architecture.
      batch: features of `MarginMSE`; `label`, float32[rows, negatives], the teacher's margins.
      key: a random key for each example, for dropout; None: nothing is left out.
      objective: pooling, similarity and so on.
    """
    rows, group = batch["passage_input_tokens"].shape[:2]
    queries, passages = group_vectors(model, batch, key, objective)
    exact = jax.lax.Precision.HIGHEST
    scores = jnp.einsum("qd,qgd->qg", queries, passages.reshape(rows, group, -1), precision=exact)
    margins = scores[:, :1] - scores[:, 1:]
    weight = jnp.float32(margins.size)
    total = jnp.square(margins - batch["label"]).sum()
    is_higher = (margins > 0).astype(jnp.float32).sum()
    return total, Sums({"loss": WeightedSum(total, weight), "accuracy": WeightedSum(is_higher, weight)})


def group_vectors(
    model: Transformer, batch: Mapping[str, jax.Array], key: jax.Array | None, objective: TextGroups
) -> tuple[Float[Array, "rows d_model"], Float[Array, "texts d_model"]]:
    """Returns the vectors of a batch's queries, and those of each one's passage and hard negatives in turn.

    Args:
      model: of any architecture.
      batch: features of groups of texts.
      key: a random key for each example, for dropout; None: nothing is left out.
      objective: pooling, similarity and so on.
    """
    rows, group = batch["passage_input_tokens"].shape[:2]
    keys = None if key is None else jax.vmap(lambda one: jax.random.split(one, 1 + group))(key)
    queries = text_vectors(
        model,
        batch["query_input_tokens"],
        batch["query_segment_ids"],
        None if keys is None else keys[:, 0],
        objective,
    )
    passages = text_vectors(
        model,
        batch["passage_input_tokens"].reshape(rows * group, -1),
        batch["passage_segment_ids"].reshape(rows * group, -1),
        None if keys is None else keys[:, 1:].reshape(rows * group),
        objective,
    )
    return queries, passages


def text_vectors(
    model: Transformer,
    tokens: Int[Array, "texts length"],
    real: Int[Array, "texts length"],
    keys: Any,
    objective: TextGroups,
) -> Float[Array, "texts d_model"]:
    """Returns the vectors of texts, `objective.chunk` of them embedded at a time.

    A chunk keeps nothing for the backward pass but its vectors: it is computed again there. So the gradient is that of
    the whole batch, and the memory that of a chunk.
    """
    side = "decoder" if model.config.architecture == "decoder-only" else "encoder"

    def vectors(part: Any) -> Float[Array, "texts d_model"]:
        tokens, real, keys = part
        batch = {f"{side}_input_tokens": tokens, f"{side}_segment_ids": real}
        found = pooled(model.text_states(batch, keys), real, objective.pooling)
        return normalized(found) if objective.similarity == "cosine" else found

    count = len(tokens)
    if not 0 < objective.chunk < count:
        return vectors((tokens, real, keys))
    num_parts = count // objective.chunk

    def split(x: jax.Array) -> jax.Array:
        # Every part takes its rows from all devices alike, so that none travels.
        x = x.reshape(objective.chunk, num_parts, *x.shape[1:]).swapaxes(0, 1)
        return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else model.constrain(x, (None, "batch", "length"))

    found = jax.lax.map(jax.checkpoint(vectors), jax.tree.map(split, (tokens, real, keys)))
    return found.swapaxes(0, 1).reshape(count, -1)


def _false_negatives(
    queries: Int[Array, "rows 2"], passages: Int[Array, "rows group 2"]
) -> Bool[Array, "rows passages"]:
    """Returns which candidates of a query are no negatives of it: its own passage's text, or what answers it too."""
    rows, group = passages.shape[:2]
    candidates = passages.reshape(rows * group, 2)
    same_passage = (passages[:, None, 0] == candidates[None]).all(-1)
    same_query = (queries[:, None] == queries[None]).all(-1)
    answers = jnp.zeros((rows, rows, group), bool).at[:, :, 0].set(same_query).reshape(rows, rows * group)
    own = jnp.arange(rows * group)[None] == (jnp.arange(rows) * group)[:, None]
    return (same_passage | answers) & ~own


def _cross_entropy(
    logits: Float[Array, "rows candidates"], own: Int[Array, " rows"]
) -> tuple[Float[Array, " rows"], Float[Array, " rows"]]:
    """Returns each row's loss, and 1 where its own candidate has the largest logit."""
    chosen = jnp.take_along_axis(logits, own[:, None], axis=1)[:, 0]
    is_first = (jnp.argmax(logits, axis=1) == own).astype(jnp.float32)
    return jax.nn.logsumexp(logits, axis=1) - chosen, is_first

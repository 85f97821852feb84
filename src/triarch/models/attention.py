"""Multi-head attention: the one module behind self- and cross-attention of every family."""

from __future__ import annotations

import math

import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from triarch.models import parameters
from triarch.models.cache import KeyValues, Update
from triarch.models.config import ModelConfig
from triarch.models.execution import Constrain, Execution
from triarch.models.kernels import Attend
from triarch.models.masks import Mask
from triarch.models.norms import Norm, rms_norm
from triarch.models.positions import rotate
from triarch.models.projection import affine, affines
from triarch.models.scores import RelativeBias, Scores

Angles = tuple[Float[Array, "batch length 1 half"], Float[Array, "batch length 1 half"]]


class Attention(nnx.Module):
    """Projects, normalises, rotates, attends and projects back.

    RedLLM (arXiv 2510.26622): queries, keys and values pass a parameter-free RMSNorm per head (equation 1), and
    the attention output passes another (equation 2). The rotation preserves norms, so that it and the norm of
    queries and keys commute.
    """

    def __init__(
        self,
        config: ModelConfig,
        execution: Execution,
        residual_std: float,
        kernel_std: float,
        rngs: nnx.Rngs,
        constrain: Constrain,
        memory_width: int | None = None,
    ):
        """Makes the projections; `memory_width` is that of what is attended to, None for `d_model`."""
        self.config = config
        self.execution = execution
        self.constrain = constrain
        d_model, width = config.d_model, config.num_heads * config.head_dim
        kv_width = config.kv_heads * config.head_dim
        self.query = parameters.normal(rngs, (d_model, width), kernel_std, ("embed", "heads"))
        given_width = d_model if memory_width is None else memory_width
        given_std = kernel_std if config.kernel_init == "fixed" else 1 / math.sqrt(given_width)
        self.key = parameters.normal(rngs, (given_width, kv_width), given_std, ("embed", "kv_heads"))
        self.value = parameters.normal(rngs, (given_width, kv_width), given_std, ("embed", "kv_heads"))
        self.output = parameters.normal(rngs, (width, d_model), residual_std, ("heads", "embed"))
        has_bias = config.attention_bias
        self.query_bias = parameters.constant(0.0, (width,), ("heads",)) if has_bias else None
        self.key_bias = parameters.constant(0.0, (kv_width,), ("kv_heads",)) if has_bias else None
        self.value_bias = parameters.constant(0.0, (kv_width,), ("kv_heads",)) if has_bias else None
        self.output_bias = parameters.constant(0.0, (d_model,), ("embed",)) if has_bias else None
        self.query_norm = _qk_norm(config, width, "heads")
        self.key_norm = _qk_norm(config, kv_width, "kv_heads")

    def __call__(
        self,
        x: Float[Array, "batch target d_model"],
        memory: Float[Array, "batch source given"] | None,
        mask: Mask,
        attend: Attend,
        query_angles: Angles | None,
        key_angles: Angles | None,
        bias: RelativeBias | None = None,
        update: Update | None = None,
        kept: KeyValues | None = None,
    ) -> tuple[Float[Array, "batch target d_model"], KeyValues | None]:
        """Lets `x` attend to `memory` (itself, in self-attention); angles of None leave vectors unrotated.

        With an `update`, also to what is `kept` from earlier calls: a `memory` of None is all there. Returns what `x`
        gets and what is to be kept now.
        """
        scores = Scores(self.config.attention_factor, self.config.attention_softcap, bias)
        projected = self._projected(x, memory)
        if update is None:

            def attended_of(*projected: jax.Array) -> jax.Array:
                return attend(*self._turned(*projected, query_angles, key_angles), mask, scores)

            narrow = self.execution.rematerialise_heads(attended_of, projected[0], scores, self.constrain)
            attended = narrow(*projected)
        else:
            step = update.attend if memory is x else update.attend_across
            turned = self._turned(*projected, query_angles, key_angles)
            attended, kept = step(*turned, mask, scores, attend, kept)
        return self._project_back(checkpoint_name(attended, "attention")), kept

    def _turned(
        self,
        query: jax.Array,
        key: jax.Array | None,
        value: jax.Array | None,
        query_angles: Angles | None,
        key_angles: Angles | None,
    ) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
        """Normalises and rotates what a kernel is given."""
        if self.config.qkv_norm:
            query, key, value = (y if y is None else rms_norm(y, self.config.norm_eps) for y in (query, key, value))
        query = query if query_angles is None else rotate(query, query_angles)
        return query, key if key is None or key_angles is None else rotate(key, key_angles), value

    def _projected(
        self, x: jax.Array, memory: jax.Array | None
    ) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
        own = (self.query, self.query_bias)
        given = (self.key, self.key_bias), (self.value, self.value_bias)
        if memory is x:
            query, *others = affines(x, own, *given)
        else:
            (query,), others = affines(x, own), [] if memory is None else affines(memory, *given)
        query = self._heads(query, self.config.num_heads, "heads", self.query_norm)
        if not others:
            return query, None, None
        kv_heads = self.config.kv_heads
        key = self._heads(others[0], kv_heads, "kv_heads", self.key_norm)
        return query, key, self._heads(others[1], kv_heads, "kv_heads", None)

    def _heads(
        self, projected: jax.Array, heads: int, axis: str, norm: Norm | None
    ) -> Float[Array, "batch length heads head_dim"]:
        of_all = norm is not None and self.config.qk_norm == "all_heads"
        projected = norm(projected) if of_all else projected
        split = projected.reshape(*projected.shape[:-1], heads, self.config.head_dim)
        split = split if norm is None or of_all else norm(split)
        return self.constrain(split, ("batch", "length", axis, None))

    def _project_back(
        self, attended: Float[Array, "batch target heads head_dim"]
    ) -> Float[Array, "batch target d_model"]:
        norm, eps = self.config.attention_output_norm, self.config.norm_eps
        if norm == "per_head":
            attended = rms_norm(attended, eps)
        joined = attended.reshape(*attended.shape[:-2], -1)
        if norm == "all_heads":
            joined = rms_norm(joined, eps)
        projected = affine(joined, self.output, self.output_bias)
        return rms_norm(projected, eps) if norm == "projected" else projected


def _qk_norm(config: ModelConfig, width: int, axis: str) -> Norm | None:
    """Makes the learned norm of queries or keys, of each head or of the `width` of all."""
    if config.qk_norm == "none":
        return None
    return Norm(config, width, axis) if config.qk_norm == "all_heads" else Norm(config, config.head_dim, None)

"""Multi-head attention: the one module behind self- and cross-attention of every family."""

from __future__ import annotations

import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from triarch.models import parameters
from triarch.models.config import ModelConfig
from triarch.models.execution import Constrain
from triarch.models.kernels import Attend
from triarch.models.masks import Mask
from triarch.models.norms import rms_norm
from triarch.models.positions import rotate
from triarch.models.projection import project

Angles = tuple[Float[Array, "batch length 1 half"], Float[Array, "batch length 1 half"]]


class Attention(nnx.Module):
    """Projects, normalises, rotates, attends and projects back.

    RedLLM (arXiv 2510.26622): queries, keys and values pass a parameter-free RMSNorm per head (equation 1), and
    the attention output passes another (equation 2). The rotation preserves norms, so that it and the norm of
    queries and keys commute.
    """

    def __init__(
        self, config: ModelConfig, residual_std: float, kernel_std: float, rngs: nnx.Rngs, constrain: Constrain
    ):
        self.config = config
        self.constrain = constrain
        d_model, width = config.d_model, config.num_heads * config.head_dim
        kv_width = config.kv_heads * config.head_dim
        self.query = parameters.normal(rngs, (d_model, width), kernel_std, ("embed", "heads"))
        self.key = parameters.normal(rngs, (d_model, kv_width), kernel_std, ("embed", "kv_heads"))
        self.value = parameters.normal(rngs, (d_model, kv_width), kernel_std, ("embed", "kv_heads"))
        self.output = parameters.normal(rngs, (width, d_model), residual_std, ("heads", "embed"))

    def __call__(
        self,
        x: Float[Array, "batch target d_model"],
        memory: Float[Array, "batch source d_model"],
        mask: Mask,
        attend: Attend,
        query_angles: Angles | None,
        key_angles: Angles | None,
    ) -> Float[Array, "batch target d_model"]:
        """Lets `x` attend to `memory` (itself, in self-attention); angles of None leave vectors unrotated."""
        query = self._heads(x, self.query, self.config.num_heads, "heads")
        key = self._heads(memory, self.key, self.config.kv_heads, "kv_heads")
        value = self._heads(memory, self.value, self.config.kv_heads, "kv_heads")
        if self.config.qkv_norm:
            query, key, value = (rms_norm(y, self.config.norm_eps) for y in (query, key, value))
        if query_angles is not None and key_angles is not None:
            query, key = rotate(query, query_angles), rotate(key, key_angles)
        attended = checkpoint_name(attend(query, key, value, mask), "attention")
        return self._project_back(attended)

    def _heads(
        self, x: jax.Array, kernel: nnx.Param, heads: int, axis: str
    ) -> Float[Array, "batch length heads head_dim"]:
        projected = project(x, kernel[...])
        split = projected.reshape(*x.shape[:-1], heads, self.config.head_dim)
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
        projected = project(joined, self.output[...])
        return rms_norm(projected, eps) if norm == "projected" else projected

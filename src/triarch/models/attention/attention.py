"""Multi-head attention: what self- and cross-attention of every family share."""

from __future__ import annotations

import jax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from triarch.models.attention.key_values import KeyValues
from triarch.models.attention.relative_bias import RelativeBias
from triarch.models.attention.scores import Scores
from triarch.models.layers.mixer import Mixer
from triarch.models.layers.norms import Norm, rms_norm
from triarch.models.layers.parts import Site
from triarch.models.layers.projection import affine
from triarch.models.shape import Shape


class Attention(Mixer):
    """Projections to queries, keys and values and back, and their norms; those who attend differ in the rest.

    RedLLM (arXiv 2510.26622): queries, keys and values pass a parameter-free RMSNorm per head (equation 1), and
    the attention output passes another (equation 2). The rotation preserves norms, so that it and the norm of
    queries and keys commute.
    """

    def __init__(self, site: Site, memory_width: int | None = None):
        """Makes the projections; `memory_width` is that of what is attended to, None for `d_model`."""
        config = site.shape
        self.config = config
        self.execution = site.execution
        self.constrain = site.constrain
        d_model, width, kv_width = config.d_model, config.heads_width, config.kv_heads_width
        self.query = site.kernel((d_model, width), ("embed", "heads"))
        given_width = d_model if memory_width is None else memory_width
        self.key = site.kernel((given_width, kv_width), ("embed", "kv_heads"))
        self.value = site.kernel((given_width, kv_width), ("embed", "kv_heads"))
        self.output = site.residual_kernel((width, d_model), ("heads", "embed"))
        has_bias = config.attention_bias
        self.query_bias = site.bias(width, "heads") if has_bias else None
        self.key_bias = site.bias(kv_width, "kv_heads") if has_bias else None
        self.value_bias = site.bias(kv_width, "kv_heads") if has_bias else None
        self.output_bias = site.bias(d_model, "embed") if has_bias else None
        self.query_norm = _qk_norm(config, width, "heads")
        self.key_norm = _qk_norm(config, kv_width, "kv_heads")

    def scores(self, bias: RelativeBias | None = None) -> Scores:
        """Returns how products of queries and keys become logits."""
        return Scores(self.config.attention_factor, self.config.attention_softcap, bias)

    def queries(self, projected: jax.Array) -> Float[Array, "batch length heads head_dim"]:
        """Returns projected queries by head."""
        return self._heads(projected, self.config.num_heads, "heads", self.query_norm)

    def keys_values(
        self, key: jax.Array, value: jax.Array
    ) -> tuple[Float[Array, "batch length kv_heads head_dim"], Float[Array, "batch length kv_heads head_dim"]]:
        """Returns projected keys and values by head."""
        heads = self.config.kv_heads
        return self._heads(key, heads, "kv_heads", self.key_norm), self._heads(value, heads, "kv_heads", None)

    def normed(self, *vectors: jax.Array) -> tuple[jax.Array, ...]:
        """Returns queries, keys and values as they are before rotation."""
        return tuple(rms_norm(y, self.config.norm_eps) for y in vectors) if self.config.qkv_norm else vectors

    def kept_axes(self, kept: KeyValues) -> list[tuple[str | None, ...]]:
        return [("batch", "kv_heads", None, None)] * 2

    def _heads(
        self, projected: jax.Array, heads: int, axis: str, norm: Norm | None
    ) -> Float[Array, "batch length heads head_dim"]:
        of_all = self.config.qk_norm == "all_heads"
        projected = norm(projected) if norm is not None and of_all else projected
        split = projected.reshape(*projected.shape[:-1], heads, self.config.head_dim)
        split = split if norm is None or of_all else norm(split)
        return self.constrain(split, ("batch", "length", axis, None))

    def project_back(
        self, attended: Float[Array, "batch target heads head_dim"]
    ) -> Float[Array, "batch target d_model"]:
        """Returns what attended values add to the residual stream."""
        attended = checkpoint_name(attended, "attention")
        norm, eps = self.config.attention_output_norm, self.config.norm_eps
        if norm == "per_head":
            attended = rms_norm(attended, eps)
        joined = attended.reshape(*attended.shape[:-2], -1)
        if norm == "all_heads":
            joined = rms_norm(joined, eps)
        projected = affine(joined, self.output, self.output_bias)
        return rms_norm(projected, eps) if norm == "projected" else projected


def _qk_norm(config: Shape, width: int, axis: str) -> Norm | None:
    """Makes the learned norm of queries or keys, of each head or of the `width` of all."""
    if config.qk_norm == "none":
        return None
    return Norm(config, width, axis) if config.qk_norm == "all_heads" else Norm(config, config.head_dim, None)

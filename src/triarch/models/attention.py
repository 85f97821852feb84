"""Multi-head attention: what self- and cross-attention of every family share."""

from __future__ import annotations

import jax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from triarch.models.checks import MOST_SIZE, require
from triarch.models.key_values import KeyValues
from triarch.models.mixer import Mixer
from triarch.models.norms import rms_norm
from triarch.models.parts import Site
from triarch.models.projection import affine
from triarch.models.relative_bias import RelativeBias
from triarch.models.scores import Scores
from triarch.models.shape import Shape


class Attention(Mixer):
    """Projections to queries, keys and values and back, and their norms; those who attend differ in the rest.

    RedLLM (arXiv 2510.26622): queries, keys and values pass a parameter-free RMSNorm per head (equation 1), and
    the attention output passes another (equation 2). The rotation preserves norms, so that it and the norm of
    queries and keys commute.
    """

    def __init__(self, site: Site):
        config = site.shape
        self.config = config
        self.execution = site.execution
        self.constrain = site.constrain
        d_model, width, kv_width = config.d_model, *_widths(config)
        self.query = site.kernel((d_model, width), ("embed", "heads"))
        self.key = site.kernel((d_model, kv_width), ("embed", "kv_heads"))
        self.value = site.kernel((d_model, kv_width), ("embed", "kv_heads"))
        self.output = site.residual_kernel((width, d_model), ("heads", "embed"))
        has_bias = config.attention_bias
        self.query_bias = site.bias(width, "heads") if has_bias else None
        self.key_bias = site.bias(kv_width, "kv_heads") if has_bias else None
        self.value_bias = site.bias(kv_width, "kv_heads") if has_bias else None
        self.output_bias = site.bias(d_model, "embed") if has_bias else None

    def scores(self, bias: RelativeBias | None = None) -> Scores:
        """Returns how products of queries and keys become logits."""
        return Scores(self.config.attention_factor, self.config.attention_softcap, bias)

    def queries(self, projected: jax.Array) -> Float[Array, "batch length heads head_dim"]:
        """Returns projected queries by head."""
        return self._heads(projected, self.config.num_heads, "heads")

    def keys(self, *projected: jax.Array) -> tuple[Float[Array, "batch length kv_heads head_dim"], ...]:
        """Returns projected keys, or values, by head."""
        return tuple(self._heads(y, self.config.kv_heads, "kv_heads") for y in projected)

    def normed(self, *vectors: jax.Array) -> tuple[jax.Array, ...]:
        """Returns queries, keys and values as they are before rotation."""
        return tuple(rms_norm(y, self.config.norm_eps) for y in vectors) if self.config.qkv_norm else vectors

    def kept_axes(self, kept: KeyValues) -> list[tuple[str | None, ...]]:
        return [("batch", "kv_heads", None, None)] * 2

    def _heads(self, projected: jax.Array, heads: int, axis: str) -> Float[Array, "batch length heads head_dim"]:
        split = projected.reshape(*projected.shape[:-1], heads, self.config.head_dim)
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


def num_attention_params(shape: Shape) -> int:
    """Returns the parameters of one attention sublayer."""
    width, kv_width = _widths(shape)
    return (
        num_query_weights(shape)
        + num_key_weights(shape)
        + (width + 2 * kv_width + shape.d_model) * (shape.attention_bias)
    )


def num_query_weights(shape: Shape) -> int:
    """Returns the entries of the matrices that each query's token passes: query and output projections."""
    return 2 * shape.d_model * _widths(shape)[0]


def num_key_weights(shape: Shape) -> int:
    """Returns the entries of the matrices that each key's token passes: key and value projections."""
    return 2 * shape.d_model * _widths(shape)[1]


def pair_flops(shape: Shape, pairs: float) -> float:
    """Returns the operations of weighing and summing: two products as wide as all heads for each pair of tokens."""
    return 4 * pairs * _widths(shape)[0]


def check_attention(shape: Shape) -> None:
    """Raises UserError for heads that make no attention."""
    fits = shape.num_heads * shape.head_dim <= MOST_SIZE
    require(shape, "head_dim", fits, f"times num_heads must be at most {MOST_SIZE:,}")
    shares = shape.num_kv_heads is None or (shape.num_kv_heads > 0 and shape.num_heads % shape.num_kv_heads == 0)
    require(shape, "num_kv_heads", shares, f"must divide num_heads = {shape.num_heads}")
    is_rotary = shape.position_encoding == "rotary"
    require(shape, "head_dim", not is_rotary or shape.head_dim % 2 == 0, "must be even: rotation is of pairs")


def _widths(shape: Shape) -> tuple[int, int]:
    """Returns the widths of all heads of queries, and of keys or values."""
    return shape.num_heads * shape.head_dim, shape.kv_heads * shape.head_dim

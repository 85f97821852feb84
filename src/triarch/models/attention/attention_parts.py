"""Attention as parts of a layer: what self- and cross-attention are, have and cost."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from triarch import lazy
from triarch.fields import MOST_SIZE, require
from triarch.models.attention.rope import Rope
from triarch.models.layers.parts import Reading, Site
from triarch.models.shape import Shape

if TYPE_CHECKING:
    from triarch.models.attention import cross_attention, self_attention
else:
    cross_attention = lazy.module("triarch.models.attention.cross_attention")
    self_attention = lazy.module("triarch.models.attention.self_attention")


@dataclasses.dataclass(frozen=True)
class SelfAttention:
    """Attention of a sequence to itself.

    Attributes:
      window: tokens visible on each side of the query (on the left only under a causal mask); None is global.
      rope: rotation of queries and keys; None: none.
    """

    window: int | None
    rope: Rope | None

    name: ClassVar[str] = "attention"
    one_way: ClassVar[bool] = False

    def build(self, site: Site) -> self_attention.SelfAttentionMixer:
        return self_attention.SelfAttentionMixer(site, self)

    def num_params(self, shape: Shape) -> int:
        return num_attention_params(shape, shape.d_model)

    def flops(self, shape: Shape, reading: Reading) -> float:
        weights = num_query_weights(shape) + num_key_weights(shape, shape.d_model)
        return 2 * reading.length * weights + pair_flops(shape, self._pairs(reading))

    def check(self, shape: Shape) -> None:
        check_attention(shape)

    def _pairs(self, reading: Reading) -> float:
        """Returns how many pairs of query and key are counted."""
        length = reading.length
        if reading.convention == "paper":
            return length**2
        reach = length - 1 if self.window is None else min(self.window, length - 1)
        before = reach * length - reach * (reach + 1) / 2
        return length + before if reading.causal else length + 2 * before


@dataclasses.dataclass(frozen=True)
class CrossAttention:
    """Attention to the encoder's output.

    Attributes:
      memory_width: of that output.
    """

    memory_width: int

    name: ClassVar[str] = "cross_attention"

    def build(self, site: Site) -> cross_attention.CrossAttentionMixer:
        return cross_attention.CrossAttentionMixer(site, self)

    def num_params(self, shape: Shape) -> int:
        return num_attention_params(shape, self.memory_width)

    def flops(self, shape: Shape, reading: Reading) -> float:
        length, memory_length = reading.length, reading.memory_length
        matmul = 2 * (length * num_query_weights(shape) + memory_length * num_key_weights(shape, self.memory_width))
        return matmul + pair_flops(shape, length * memory_length)

    def check(self, shape: Shape) -> None:
        check_attention(shape)


def num_attention_params(shape: Shape, memory_width: int) -> int:
    """Returns the parameters of one attention sublayer whose keys and values are of states of this width."""
    width, kv_width = shape.heads_width, shape.kv_heads_width
    biases = (width + 2 * kv_width + shape.d_model) * shape.attention_bias
    normed = {"none": 0, "per_head": 2 * shape.head_dim, "all_heads": width + kv_width}[shape.qk_norm]
    return num_query_weights(shape) + num_key_weights(shape, memory_width) + biases + shape.num_norm_params(normed)


def num_query_weights(shape: Shape) -> int:
    """Returns the entries of the matrices that each query's token passes: query and output projections."""
    return 2 * shape.d_model * shape.heads_width


def num_key_weights(shape: Shape, memory_width: int) -> int:
    """Returns the entries of the matrices that each key's token passes, of this width: key and value projections."""
    return 2 * memory_width * shape.kv_heads_width


def pair_flops(shape: Shape, pairs: float) -> float:
    """Returns the operations of weighing and summing: two products as wide as all heads for each pair of tokens."""
    return 4 * pairs * shape.heads_width


def check_attention(shape: Shape) -> None:
    """Raises UserError for heads that make no attention."""
    fits = shape.num_heads * shape.head_dim <= MOST_SIZE
    require(shape, "head_dim", fits, f"times num_heads must be at most {MOST_SIZE:,}")
    shares = shape.num_kv_heads is None or (shape.num_kv_heads > 0 and shape.num_heads % shape.num_kv_heads == 0)
    require(shape, "num_kv_heads", shares, f"must divide num_heads = {shape.num_heads}")
    once = shape.qk_norm == "none" or not shape.qkv_norm
    require(shape, "qk_norm", once, "goes with qkv_norm = False only")


def num_relative_biases(shape: Shape, per_layer: bool) -> int:
    """Returns the parameters of one table; 0 unless there is one for each layer, or for each stack."""
    is_there = shape.position_encoding == "relative_bias" and shape.relative_bias_per_layer == per_layer
    return shape.relative_buckets * shape.num_heads if is_there else 0


def check_relative_bias(shape: Shape) -> None:
    """Raises UserError for values that make no table, or that have no effect."""
    if shape.position_encoding != "relative_bias":
        goes = "goes with position_encoding = 'relative_bias' only"
        require(shape, "relative_bias_per_layer", not shape.relative_bias_per_layer, goes)
        return
    exact = shape.relative_buckets // (4 if shape.num_encoder_layers else 2)
    require(shape, "relative_buckets", exact > 0, "must be at least 4 in an encoder, 2 in a decoder")
    reach = shape.relative_max_distance > exact
    require(shape, "relative_max_distance", reach, f"must exceed the {exact} distances with own buckets")

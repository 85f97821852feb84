"""The numbers and choices that describe a Transformer: one flat value, which the parts of its layers read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from triarch.fields import Count, Limits, Positive, Size
from triarch.models.attention.rope import Rope, RopeScaling

Architecture = Literal["encoder-only", "decoder-only", "encoder-decoder"]
Side = Literal["encoder", "decoder"]
# Far above any published network, and low enough that a config of a file is refused before anything is built by it.
MOST_LAYERS = 2**12
Layers = Annotated[int, Limits(least=0, most=MOST_LAYERS)]
Width = Annotated[int, Limits(least=1, most=2**18)]
FeedForwardWidth = Annotated[int, Limits(least=0, most=2**22)]
Heads = Annotated[int, Limits(least=1, most=2**14)]
HeadWidth = Annotated[int, Limits(least=1, most=2**16)]
# Fields of which a decoder may have its own, as `decoder_...`.
SIDE_SIZES = ("d_model", "d_ff", "num_heads", "head_dim", "num_kv_heads")


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a network's parts are made from; `ModelConfig` adds which parts those are.

    The architecture follows from the layer counts: layers on one side only make an encoder-only or
    decoder-only model, layers on both sides an encoder-decoder.

    Attributes:
      vocab_size: rows of the embedding matrix; at least the size of the vocabulary in use.
      d_model: width of the residual stream.
      d_ff: inner width of the feed-forward layer (of each of its two branches if gated); 0: there is none (Mamba).
      num_heads: query heads.
      head_dim: width of one head.
      num_encoder_layers: bidirectional layers.
      num_decoder_layers: causal layers; with encoder layers present they also carry cross-attention.
      num_kv_heads: key/value heads; None means as many as query heads.
      decoder_d_model: of an encoder-decoder's decoder, where it differs from the encoder's; None: it does not. Keys and
        values of cross-attention map the encoder's width. So with the next four.
      decoder_d_ff: see `decoder_d_model`.
      decoder_num_heads: see `decoder_d_model`.
      decoder_head_dim: see `decoder_d_model`.
      decoder_num_kv_heads: see `decoder_d_model`.
      activation: nonlinearity of the feed-forward layer; "gelu" is the exact one.
      gated_mlp: multiply the activated branch by a second linear branch (SwiGLU, GeGLU).
      mlp_bias: biases in the feed-forward layer.
      norm: kind of the norms on the residual stream.
      norm_scale: their learned gain: "gain", "one_plus_gain" (Gemma: one more than the parameter) or "none", as
        RedLLM's published parameter counts have it.
      norm_bias: LayerNorm's learned bias.
      norm_eps: added to the mean square (RMSNorm) or the variance (LayerNorm).
      norm_position: "pre" is x + f(norm(x)), "post" is norm(x + f(x)) (BERT, BART), "pre_and_post" is
        x + norm(f(norm(x))) (Gemma 2), "output" is x + norm(f(x)) (OLMo 2).
      parallel_residual: whether all sublayers of a layer read its input, x + f(norm(x)) + g(norm(x)) (GPT-NeoX), not
        each what the one before it left.
      first_attention_norm: whether layer 0 has a norm before its self-attention (ModernBERT: no).
      final_norm: a norm after the last layer of a stack.
      attention_bias: biases of the query, key, value and output projections.
      attention_scale: factor on products of queries and keys; T5 has 1, Gemma a number of its own.
      attention_softcap: products x become cap * tanh(x / cap) (Gemma 2).
      qkv_norm: parameter-free RMSNorm over the head dimension of queries, keys and values.
      qk_norm: the config's own norm, with its gain, on queries and keys: "per_head" (Qwen3, Gemma 3: one gain for all
        heads) or "all_heads" (OLMo 2: over the concatenated heads).
      attention_output_norm: RedLLM's extra parameter-free RMSNorm on the attention output: "per_head" and
        "all_heads" (over the concatenated heads) stand before the output projection, "projected" after it. The
        paper's equation 2 reads "per_head"; the others are there because its text does not exclude them.
      sliding_window: reach of local layers on each side in tokens; None makes every layer global.
      decoder_sliding_window: the same for decoders, where it differs (T5Gemma); None means `sliding_window`.
      global_every: with a sliding window, layer i is global if and only if i % global_every is `first_global`.
      first_global: see `global_every`.
      position_encoding: "rotary"; "learned" adds a row for each place to the embeddings (BERT, GPT-2, BART);
        "relative_bias" adds a number for each head and distance to self-attention's logits (T5); "none".
      rope_base: base of the rotary embedding in global layers (not stated by the RedLLM paper).
      local_rope_base: the same in sliding-window layers; None means `rope_base`.
      rope_scaling: how the rotary embedding is slowed in global layers, for longer texts.
      rope_fraction: the part of a head's width that is rotated (GPT-NeoX: 0.25).
      learned_positions: rows of the position table that each side has.
      learned_position_offset: the row of place 0 (BART: 2).
      relative_buckets: rows of the table of relative biases.
      relative_max_distance: distance from which on all share the last bucket.
      relative_bias_per_layer: whether each layer has a table of its own (UMT5, T5X's scanned T5), not each stack.
      decoder_positions: "continuous" counts the decoder's positions on from the encoder's last real token (RedLLM);
        "restart" begins again at zero (T5Gemma, BART).
      cross_attention_rope: rotate queries and keys of cross-attention (RedLLM yes, T5Gemma no).
      token_types: rows of a table of token types added to the embeddings (BERT: 2); 0 for none.
      embedding_norm: a norm right after the embeddings, on each side (BERT, ModernBERT, BART).
      embedding_scale: factor on token embeddings as they enter the residual stream; "sqrt_d_model" as in Gemma.
      shared_embeddings: whether encoder and decoder read the same embedding (T5Gemma: each has its own).
      tied_embeddings: whether the output matrix is the embedding, of the decoder if each side has its own.
      logits_scale: factor on the logits; "rsqrt_d_model" as T5 has it for tied embeddings.
      logits_softcap: logits x become cap * tanh(x / cap) (Gemma 2).
      logits_bias: a learned bias on the logits (BERT, ModernBERT).
      prediction_head: dense, activation and norm between the last layer and the vocabulary (BERT, ModernBERT).
      prediction_head_bias: bias of that dense layer (BERT).
      kernel_init: "fan_in" is a truncated normal of variance 1/fan_in (T5X); "fixed" has standard deviation
        `init_std`, and `init_std / sqrt(2 layers)` for projections back into the residual stream (Megatron, Ettin).
      init_std: standard deviation under "fixed".
      embedding_init_std: standard deviation of the embedding; None means 0.25 / sqrt(d_model), which puts
        the initial loss within 1 % of ln(vocab_size) at every width although input and output share the matrix.
      pad_id: token taken for padding in encoder inputs that come without segment ids.
      parametrization: what becomes of initial values, factors and learning rates as the network grows from its base, at
        which all three are one. "standard": nothing; "mup" (arXiv 2203.03466): rates of hidden matrices fall with
        width, and so do logits, so that the best rate of the base stays the best; "complete_p" (arXiv 2505.01618)
        divides what sublayers add by depth too.
      base_d_model: width of the base of "mup" and "complete_p"; heads and d_ff are taken to grow with it.
      base_head_dim: width of the base's heads, where a head's width grows; None: it does not.
      base_layers: layers of each side of the base of "complete_p".
    """

    vocab_size: Annotated[int, Limits(least=1, most=2**26)]
    d_model: Width
    d_ff: FeedForwardWidth
    num_heads: Heads
    head_dim: HeadWidth
    num_encoder_layers: Layers = 0
    num_decoder_layers: Layers = 0
    num_kv_heads: int | None = None
    decoder_d_model: Width | None = None
    decoder_d_ff: FeedForwardWidth | None = None
    decoder_num_heads: Heads | None = None
    decoder_head_dim: HeadWidth | None = None
    decoder_num_kv_heads: Heads | None = None

    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = "silu"
    gated_mlp: bool = True
    mlp_bias: bool = False

    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_scale: Literal["none", "gain", "one_plus_gain"] = "gain"
    norm_bias: bool = False
    norm_eps: Positive = 1e-6
    norm_position: Literal["pre", "post", "pre_and_post", "output"] = "pre"
    parallel_residual: bool = False
    first_attention_norm: bool = True
    final_norm: bool = True

    attention_bias: bool = False
    attention_scale: float | Literal["rsqrt_head_dim"] = "rsqrt_head_dim"
    attention_softcap: Positive | None = None
    qkv_norm: bool = False
    qk_norm: Literal["none", "per_head", "all_heads"] = "none"
    attention_output_norm: Literal["none", "per_head", "all_heads", "projected"] = "none"
    sliding_window: Count | None = None
    decoder_sliding_window: Count | None = None
    global_every: Size = 1
    first_global: int = 0

    position_encoding: Literal["rotary", "learned", "relative_bias", "none"] = "rotary"
    rope_base: Positive = 10_000.0
    local_rope_base: Positive | None = None
    rope_scaling: RopeScaling | None = None
    rope_fraction: Annotated[float, Limits(above=0, most=1)] = 1.0
    learned_positions: Annotated[int, Limits(most=2**26)] | None = None
    learned_position_offset: Count = 0
    relative_buckets: Annotated[int, Limits(least=1, most=2**16)] = 32
    relative_max_distance: Size = 128
    relative_bias_per_layer: bool = False
    decoder_positions: Literal["continuous", "restart"] = "continuous"
    cross_attention_rope: bool = True

    token_types: Annotated[int, Limits(least=0, most=2**16)] = 0
    embedding_norm: bool = False
    embedding_scale: float | Literal["sqrt_d_model"] = 1.0
    shared_embeddings: bool = True
    tied_embeddings: bool = True
    logits_scale: float | Literal["rsqrt_d_model"] = 1.0
    logits_softcap: Positive | None = None
    logits_bias: bool = False
    prediction_head: bool = False
    prediction_head_bias: bool = False

    kernel_init: Literal["fan_in", "fixed"] = "fan_in"
    init_std: Positive = 0.02
    embedding_init_std: Positive | None = None
    pad_id: int = 0

    parametrization: Literal["standard", "mup", "complete_p"] = "standard"
    base_d_model: Width | None = None
    base_head_dim: HeadWidth | None = None
    base_layers: Layers | None = None

    @property
    def architecture(self) -> Architecture:
        if self.num_encoder_layers and self.num_decoder_layers:
            return "encoder-decoder"
        return "encoder-only" if self.num_encoder_layers else "decoder-only"

    def of_side(self, side: Side) -> Self:
        """Returns what one side is made from: of the decoder, its own sizes in place of the encoder's."""
        own = {name: getattr(self, f"decoder_{name}") for name in SIDE_SIZES}
        if side == "encoder" or all(size is None for size in own.values()):
            return self
        sizes: dict[str, Any] = {name: size for name, size in own.items() if size is not None}
        return dataclasses.replace(self, **sizes | dict.fromkeys((f"decoder_{name}" for name in SIDE_SIZES), None))

    @property
    def kv_heads(self) -> int:
        return self.num_kv_heads or self.num_heads

    @property
    def heads_width(self) -> int:
        """Width of all query heads side by side."""
        return self.num_heads * self.head_dim

    @property
    def kv_heads_width(self) -> int:
        """Width of all key, or value, heads side by side."""
        return self.kv_heads * self.head_dim

    @property
    def attention_factor(self) -> float:
        """`attention_scale` as a number, as the parametrization has it: under "mup" it falls with head_dim itself."""
        base = self.base_head_dim or self.head_dim
        at_base = 1 / math.sqrt(base) if self.attention_scale == "rsqrt_head_dim" else self.attention_scale
        return at_base if base == self.head_dim else at_base * base / self.head_dim

    @property
    def width_ratio(self) -> float:
        """How many times as wide as its base the network is; 1 under "standard"."""
        return 1.0 if self.base_d_model is None else self.d_model / self.base_d_model

    @property
    def embedding_factor(self) -> float:
        """`embedding_scale` as a number, as the parametrization has it."""
        base = self.base_d_model or self.d_model
        return math.sqrt(base) if self.embedding_scale == "sqrt_d_model" else self.embedding_scale

    @property
    def logits_factor(self) -> float:
        """`logits_scale` as a number, as the parametrization has it."""
        base = self.base_d_model or self.d_model
        at_base = 1 / math.sqrt(base) if self.logits_scale == "rsqrt_d_model" else self.logits_scale
        return at_base if base == self.d_model else at_base / self.width_ratio

    def residual_factor(self, side: Side) -> float:
        """Returns the factor on what each sublayer of a side adds to the residual stream."""
        return 1.0 if self.base_layers is None else self.base_layers / self.num_layers(side)

    def in_numbers(self) -> Self:
        """Returns the shape that computes the same, `residual_factor` apart, in the standard parametrization."""
        if self.parametrization == "standard":
            return self
        scales: dict[str, Any] = {
            "attention_scale": self.attention_factor,
            "embedding_scale": self.embedding_factor,
            "logits_scale": self.logits_factor,
        }
        base: dict[str, Any] = {"base_d_model": None, "base_head_dim": None, "base_layers": None}
        return dataclasses.replace(self, parametrization="standard", **scales, **base)

    @property
    def rope(self) -> Rope | None:
        """Rotation in global layers and cross-attention; None without rotary positions."""
        if self.position_encoding != "rotary":
            return None
        return Rope(self.rope_base, self.rope_scaling, self.rope_fraction)

    @property
    def local_rope(self) -> Rope | None:
        """Rotation in sliding-window layers; None without rotary positions."""
        if self.position_encoding != "rotary":
            return None
        return Rope(self.local_rope_base or self.rope_base, fraction=self.rope_fraction)

    def num_norm_params(self, width: int) -> int:
        """Returns the parameters of a norm."""
        return width * ((self.norm_scale != "none") + self.norm_bias)

    def num_layers(self, side: Side) -> int:
        """Returns how many layers one side has."""
        return self.num_encoder_layers if side == "encoder" else self.num_decoder_layers

    def __post_init__(self) -> None:
        # JSON knows mappings only.
        if isinstance(self.rope_scaling, Mapping):
            object.__setattr__(self, "rope_scaling", RopeScaling(**self.rope_scaling))

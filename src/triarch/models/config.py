"""What a network is: one frozen value from which every family is built."""

from __future__ import annotations

import dataclasses
import typing
from typing import Literal

from triarch.errors import UserError, nearest
from triarch.models import counts

Architecture = Literal["encoder-only", "decoder-only", "encoder-decoder"]


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    """What may differ from layer to layer of one stack.

    Attributes:
      window: tokens visible on each side of the query (on the left only under a causal mask); None is global.
      rope_base: wavelength base of the rotary embedding in this layer.
      attention_norm: whether a norm precedes self-attention (ModernBERT's first layer has none).
    """

    window: int | None
    rope_base: float
    attention_norm: bool


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A Transformer: RedLLM, DecLLM and Ettin are values of this class (arXiv 2510.26622, 2507.11412).

    The architecture follows from the layer counts: layers on one side only make an encoder-only or
    decoder-only model, layers on both sides an encoder-decoder.

    Attributes:
      vocab_size: rows of the embedding matrix; at least the size of the vocabulary in use.
      d_model: width of the residual stream.
      d_ff: inner width of the feed-forward layer (of each of its two branches if gated).
      num_heads: query heads.
      num_kv_heads: key/value heads; None means as many as query heads.
      head_dim: width of one head.
      num_encoder_layers: bidirectional layers.
      num_decoder_layers: causal layers; with encoder layers present they also carry cross-attention.
      activation: nonlinearity of the feed-forward layer; "gelu" is the exact one.
      gated_mlp: multiply the activated branch by a second linear branch (SwiGLU, GeGLU).
      norm: kind of the norms on the residual stream, which stand before each sublayer.
      norm_scale: whether those norms have a learned gain. RedLLM's published parameter counts hold none.
      norm_eps: added to the mean square (RMSNorm) or the variance (LayerNorm).
      qkv_norm: parameter-free RMSNorm over the head dimension of queries, keys and values.
      attention_output_norm: RedLLM's extra parameter-free RMSNorm on the attention output: "per_head" and
        "all_heads" (over the concatenated heads) stand before the output projection, "projected" after it. The
        paper's equation 2 reads "per_head"; the others are there because its text does not exclude them.
      rope_base: base of the rotary embedding in global layers (not stated by the RedLLM paper).
      local_rope_base: the same in sliding-window layers; None means `rope_base`.
      decoder_positions: "continuous" lets the decoder go on where the encoder's last real token stopped (RedLLM);
        "restart" begins again at zero (T5Gemma).
      cross_attention_rope: rotate queries and keys of cross-attention (RedLLM yes, T5Gemma no).
      sliding_window: reach of local layers on each side in tokens; None makes every layer global.
      global_every: with a sliding window, layer i is global if and only if i is a multiple of this.
      first_attention_norm: whether layer 0 has a norm before its self-attention (ModernBERT: no).
      embedding_norm: a norm right after the token embedding (ModernBERT).
      embedding_scale: factor on token embeddings as they enter the residual stream; "sqrt_d_model" as in Gemma.
      logits_scale: factor on the logits; "rsqrt_d_model" as T5 has it for tied embeddings.
      prediction_head: dense, activation and norm between the last layer and the vocabulary, and a bias on the
        logits (BERT, Ettin).
      kernel_init: "fan_in" is a truncated normal of variance 1/fan_in (T5X); "fixed" has standard deviation
        `init_std`, and `init_std / sqrt(2 layers)` for projections back into the residual stream (Megatron, Ettin).
      init_std: standard deviation under "fixed".
      embedding_init_std: standard deviation of the embedding; None means 0.25 / sqrt(d_model), which puts
        the initial loss within 1 % of ln(vocab_size) at every width although input and output share the matrix.
      pad_id: token taken for padding in encoder inputs that come without segment ids.
    """

    vocab_size: int
    d_model: int
    d_ff: int
    num_heads: int
    head_dim: int
    num_encoder_layers: int = 0
    num_decoder_layers: int = 0
    num_kv_heads: int | None = None
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = "silu"
    gated_mlp: bool = True
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_scale: bool = True
    norm_eps: float = 1e-6
    qkv_norm: bool = False
    attention_output_norm: Literal["none", "per_head", "all_heads", "projected"] = "none"
    rope_base: float = 10_000.0
    local_rope_base: float | None = None
    decoder_positions: Literal["continuous", "restart"] = "continuous"
    cross_attention_rope: bool = True
    sliding_window: int | None = None
    global_every: int = 1
    first_attention_norm: bool = True
    embedding_norm: bool = False
    embedding_scale: float | Literal["sqrt_d_model"] = 1.0
    logits_scale: float | Literal["rsqrt_d_model"] = 1.0
    prediction_head: bool = False
    kernel_init: Literal["fan_in", "fixed"] = "fan_in"
    init_std: float = 0.02
    embedding_init_std: float | None = None
    pad_id: int = 0

    @property
    def architecture(self) -> Architecture:
        if self.num_encoder_layers and self.num_decoder_layers:
            return "encoder-decoder"
        return "encoder-only" if self.num_encoder_layers else "decoder-only"

    @property
    def kv_heads(self) -> int:
        return self.num_kv_heads or self.num_heads

    def layer_specs(self, num_layers: int) -> tuple[LayerSpec, ...]:
        """Returns what is particular to each layer of a stack of `num_layers`."""

        def spec(index: int) -> LayerSpec:
            is_global = self.sliding_window is None or index % self.global_every == 0
            return LayerSpec(
                window=None if is_global else self.sliding_window,
                rope_base=self.rope_base if is_global else self.local_rope_base or self.rope_base,
                attention_norm=index > 0 or self.first_attention_norm,
            )

        return tuple(spec(index) for index in range(num_layers))

    def num_params(self) -> int:
        """Returns the exact number of parameters, shared ones counted once."""
        return counts.num_params(self)

    def num_params_non_embedding(self) -> int:
        """Returns `num_params` without the embedding matrix."""
        return self.num_params() - self.vocab_size * self.d_model

    def flops(
        self,
        encoder_length: int,
        decoder_length: int,
        convention: counts.Convention,
        num_scored: int | None = None,
    ) -> float:
        """Returns floating-point operations of one sequence; see `counts.flops` for the two conventions."""
        return counts.flops(self, encoder_length, decoder_length, convention, num_scored)

    def validate(self) -> None:
        """Raises UserError, naming the field, for values that make no network."""
        for name in ("vocab_size", "d_model", "d_ff", "num_heads", "head_dim"):
            _require(self, name, getattr(self, name) > 0, "must be positive")
        for name in ("num_encoder_layers", "num_decoder_layers"):
            _require(self, name, getattr(self, name) >= 0, "must not be negative")
        layers = self.num_encoder_layers + self.num_decoder_layers
        _require(self, "num_decoder_layers", layers > 0, "must be positive where num_encoder_layers is 0")
        shares = self.num_kv_heads is None or (self.num_kv_heads > 0 and self.num_heads % self.num_kv_heads == 0)
        _require(self, "num_kv_heads", shares, f"must divide num_heads = {self.num_heads}")
        _require(self, "head_dim", self.head_dim % 2 == 0, "must be even: rotary positions turn pairs")
        for name in ("global_every", "norm_eps", "rope_base", "local_rope_base", "init_std", "embedding_init_std"):
            value = getattr(self, name)
            _require(self, name, value is None or value > 0, "must be positive")
        _require(
            self, "sliding_window", self.sliding_window is None or self.sliding_window >= 0, "must not be negative"
        )
        _require(self, "pad_id", 0 <= self.pad_id < self.vocab_size, f"must be below vocab_size = {self.vocab_size}")
        for field, allowed in _CHOICES.items():
            value = getattr(self, field)
            if value not in allowed and not (isinstance(value, int | float) and field.endswith("_scale")):
                raise UserError(f"ModelConfig.{field} = {value!r}{nearest(str(value), allowed)}")


_CHOICES = {
    name: typing.get_args(hint if typing.get_origin(hint) is Literal else typing.get_args(hint)[-1])
    for name, hint in typing.get_type_hints(ModelConfig).items()
    if "Literal" in str(hint)
}


def _require(config: ModelConfig, field: str, condition: bool, expectation: str) -> None:
    if not condition:
        raise UserError(f"ModelConfig.{field} = {getattr(config, field)!r} {expectation}")

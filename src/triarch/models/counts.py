"""Parameters and floating-point operations of a network, from its config alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from triarch.models.config import LayerSpec, ModelConfig, Side

Convention = Literal["paper", "train"]


def num_params(config: ModelConfig) -> int:
    """Returns the number of parameters; a shared matrix counts once.

    For RedLLM and DecLLM these are the counts of arXiv 2510.26622 (figure 2, right), for the other families those of
    the released checkpoints, heads for language modelling included.
    """
    total = embedding_params(config) + _stack_params(config, "encoder") + _stack_params(config, "decoder")
    predicting = config.of_side("decoder")
    if config.prediction_head:
        total += predicting.d_model**2 + predicting.d_model * config.prediction_head_bias + _norm_params(predicting)
    return total + config.vocab_size * config.logits_bias


def embedding_params(config: ModelConfig) -> int:
    """Returns the number of parameters that embed tokens or turn states into logits."""
    width = config.of_side("decoder").d_model * (1 + (not config.tied_embeddings))
    return config.vocab_size * (width + config.d_model * (not config.shared_embeddings))


def _stack_params(config: ModelConfig, side: Side) -> int:
    if not config.num_layers(side):
        return 0
    own = config.of_side(side)
    cross = side == "decoder" and config.architecture == "encoder-decoder"
    total = sum(_layer_params(own, spec, config.d_model if cross else None) for spec in config.layer_specs(side))
    total += own.d_model * ((config.learned_positions or 0) + config.token_types)
    total += _norm_params(own) * (config.embedding_norm + config.final_norm)
    if config.position_encoding == "relative_bias":
        tables = config.num_layers(side) if config.relative_bias_per_layer else 1
        total += tables * config.relative_buckets * own.num_heads
    return total


def flops(
    config: ModelConfig,
    encoder_length: int,
    decoder_length: int,
    convention: Convention,
    num_scored: int | None = None,
) -> float:
    """Returns floating-point operations for one sequence (2 per multiply-add; matrix products only).

    Two conventions, since a factor of three or six hides in the choice:

    - "paper" is what arXiv 2510.26622 plots: the forward pass alone, the full attention square also under a causal
      mask or window, and every embedding lookup counted as a product with a one-hot matrix.
    - "train" is what a training step needs: three times the forward pass (the backward pass costs two), only
      those query-key pairs that the mask lets see each other, lookups free.

    Args:
      config: the network.
      encoder_length: tokens read by the encoder (ignored without one).
      decoder_length: tokens read by the decoder (ignored without one).
      convention: "paper" or "train".
      num_scored: tokens that logits are computed for; None means every token of the side that predicts. "paper"
        takes no notice of it.
    """
    matmul = 0.0
    attention = 0.0
    inputs = 0.0
    decoder = config.of_side("decoder")
    for side, length in (("encoder", encoder_length), ("decoder", decoder_length)):
        specs, own = config.layer_specs(side), config.of_side(side)
        inputs += length * own.d_model if specs else 0
        matmul += len(specs) * 2 * length * (_attention_matrices(own) + _mlp_matrices(own))
        pairs = sum(_self_attention_pairs(spec, length, side == "decoder", convention) for spec in specs)
        attention += pairs * own.num_heads * own.head_dim
    if config.architecture == "encoder-decoder":
        query_side, key_side = _attention_matrices_by_side(decoder, config.d_model)
        matmul += 2 * config.num_decoder_layers * (decoder_length * query_side + encoder_length * key_side)
        pairs = config.num_decoder_layers * decoder_length * encoder_length
        attention += pairs * decoder.num_heads * decoder.head_dim
    predicting = decoder_length if config.num_decoder_layers else encoder_length
    scored = predicting if num_scored is None or convention == "paper" else num_scored
    if config.prediction_head:
        matmul += 2 * predicting * decoder.d_model**2
    one_hot_lookups = inputs if convention == "paper" else 0
    matmul += 2 * (scored * decoder.d_model + one_hot_lookups) * config.vocab_size
    forward = matmul + 4 * attention
    return forward if convention == "paper" else 3 * forward


def _self_attention_pairs(spec: LayerSpec, length: int, causal: bool, convention: Convention) -> float:
    if convention == "paper":
        return length**2
    reach = length - 1 if spec.window is None else min(spec.window, length - 1)
    before = reach * length - reach * (reach + 1) / 2
    return length + before if causal else length + 2 * before


def _attention_matrices_by_side(config: ModelConfig, memory_width: int) -> tuple[int, int]:
    """Weights applied to each query token (query and output projections), and to each key token of that width."""
    return (
        2 * config.d_model * config.num_heads * config.head_dim,
        2 * memory_width * config.kv_heads * config.head_dim,
    )


def _attention_matrices(config: ModelConfig) -> int:
    return sum(_attention_matrices_by_side(config, config.d_model))


def _mlp_matrices(config: ModelConfig) -> int:
    return (3 if config.gated_mlp else 2) * config.d_model * config.d_ff


def _norm_params(config: ModelConfig) -> int:
    return config.d_model * ((config.norm_scale != "none") + config.norm_bias)


def _layer_params(config: ModelConfig, spec: LayerSpec, memory_width: int | None) -> int:
    """Parameters of a layer; with cross-attention where there is something of a width to attend to."""
    attentions = 1 if memory_width is None else 2
    norms = int(spec.attention_norm) + attentions
    if config.norm_position == "pre_and_post":
        norms += 1 + attentions
    attention, mlp = _attention_matrices(config), _mlp_matrices(config)
    if config.attention_bias:
        attention += (config.num_heads + 2 * config.kv_heads) * config.head_dim + config.d_model
    normed = {"none": 0, "per_head": 2, "all_heads": config.num_heads + config.kv_heads}[config.qk_norm]
    attention += normed * config.head_dim * ((config.norm_scale != "none") + config.norm_bias)
    if config.mlp_bias:
        mlp += (2 if config.gated_mlp else 1) * config.d_ff + config.d_model
    if memory_width is not None:
        mlp += 2 * (memory_width - config.d_model) * config.kv_heads * config.head_dim
    return attentions * attention + mlp + norms * _norm_params(config)

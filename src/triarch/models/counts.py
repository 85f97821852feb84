"""Parameters and floating-point operations of a network, from its config alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from triarch.models.config import LayerSpec, ModelConfig

Convention = Literal["paper", "train"]


def num_params(config: ModelConfig) -> int:
    """Returns the number of parameters; a shared matrix counts once.

    For RedLLM and DecLLM these are the counts of arXiv 2510.26622 (figure 2, right); for Ettin those of the
    released checkpoints of arXiv 2507.11412, prediction head included.
    """
    norm = _norm_params(config)
    total = config.vocab_size * config.d_model
    if config.embedding_norm:
        total += norm
    for num_layers, is_decoder in ((config.num_encoder_layers, False), (config.num_decoder_layers, True)):
        cross = is_decoder and config.architecture == "encoder-decoder"
        total += sum(_layer_params(config, spec, cross) for spec in config.layer_specs(num_layers))
        total += norm if num_layers else 0
    if config.prediction_head:
        total += config.d_model**2 + norm + config.vocab_size
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
    inputs = 0
    for num_layers, length, causal in (
        (config.num_encoder_layers, encoder_length, False),
        (config.num_decoder_layers, decoder_length, True),
    ):
        inputs += length if num_layers else 0
        for spec in config.layer_specs(num_layers):
            matmul += 2 * length * (_attention_matrices(config) + _mlp_matrices(config))
            attention += _self_attention_pairs(spec, length, causal, convention)
    if config.architecture == "encoder-decoder":
        query_side, key_side = _attention_matrices_by_side(config)
        matmul += 2 * config.num_decoder_layers * (decoder_length * query_side + encoder_length * key_side)
        attention += config.num_decoder_layers * decoder_length * encoder_length
    predicting = decoder_length if config.num_decoder_layers else encoder_length
    scored = predicting if num_scored is None or convention == "paper" else num_scored
    if config.prediction_head:
        matmul += 2 * predicting * config.d_model**2
    one_hot_lookups = inputs if convention == "paper" else 0
    matmul += 2 * (scored + one_hot_lookups) * config.vocab_size * config.d_model
    forward = matmul + 4 * attention * config.num_heads * config.head_dim
    return forward if convention == "paper" else 3 * forward


def _self_attention_pairs(spec: LayerSpec, length: int, causal: bool, convention: Convention) -> float:
    if convention == "paper":
        return length**2
    reach = length - 1 if spec.window is None else min(spec.window, length - 1)
    before = reach * length - reach * (reach + 1) / 2
    return length + before if causal else length + 2 * before


def _attention_matrices_by_side(config: ModelConfig) -> tuple[int, int]:
    """Weights applied to each query token (query and output projections), and to each key token."""
    return (
        2 * config.d_model * config.num_heads * config.head_dim,
        2 * config.d_model * config.kv_heads * config.head_dim,
    )


def _attention_matrices(config: ModelConfig) -> int:
    return sum(_attention_matrices_by_side(config))


def _mlp_matrices(config: ModelConfig) -> int:
    return (3 if config.gated_mlp else 2) * config.d_model * config.d_ff


def _norm_params(config: ModelConfig) -> int:
    return config.d_model if config.norm_scale else 0


def _layer_params(config: ModelConfig, spec: LayerSpec, cross: bool) -> int:
    norms = 1 + int(spec.attention_norm) + int(cross)
    attentions = 2 if cross else 1
    return attentions * _attention_matrices(config) + _mlp_matrices(config) + norms * _norm_params(config)

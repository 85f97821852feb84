"""Which of a shape's fields go together, parts apart, which check themselves."""

from __future__ import annotations

import dataclasses

from triarch.models.checks import MOST_SIZE, check_at_most, check_not_negative, check_positive, is_finite, require
from triarch.models.shape import Shape

_SIZES = ("vocab_size", "d_model", "d_ff", "num_heads", "head_dim", "global_every", "relative_buckets")
_COUNTS = (
    "num_encoder_layers",
    "num_decoder_layers",
    "sliding_window",
    "decoder_sliding_window",
    "learned_position_offset",
    "token_types",
)
_POSITIVE = (
    *("norm_eps", "rope_base", "local_rope_base", "init_std", "embedding_init_std"),
    *("attention_softcap", "logits_softcap", "relative_max_distance"),
)
# Far above any published network, and low enough that a config of a file is refused before anything is built by it.
MOST_LAYERS = 2**12
_MOST = {
    "vocab_size": 2**26,
    "d_model": 2**18,
    "d_ff": 2**22,
    "num_heads": 2**14,
    "head_dim": 2**16,
    "num_encoder_layers": MOST_LAYERS,
    "num_decoder_layers": MOST_LAYERS,
    "learned_positions": 2**26,
    "relative_buckets": 2**16,
    "token_types": 2**16,
    **dict.fromkeys(("sliding_window", "decoder_sliding_window", "learned_position_offset"), MOST_SIZE),
}


def check_shape(shape: Shape) -> None:
    """Raises UserError, naming the field, for values that make no network."""
    check_positive(shape, _SIZES + _POSITIVE)
    check_not_negative(shape, _COUNTS)
    check_at_most(shape, _MOST)
    layers = shape.num_encoder_layers + shape.num_decoder_layers
    require(shape, "num_decoder_layers", layers > 0, "must be positive where num_encoder_layers is 0")
    in_vocabulary = 0 <= shape.pad_id < shape.vocab_size
    require(shape, "pad_id", in_vocabulary, f"must be below vocab_size = {shape.vocab_size}")
    skips_norm = not shape.first_attention_norm
    is_pre = shape.norm_position == "pre" or not skips_norm
    require(shape, "first_attention_norm", is_pre, "goes with norm_position = 'pre' only")
    two_sided = shape.architecture == "encoder-decoder"
    require(shape, "shared_embeddings", shape.shared_embeddings or two_sided, "goes with an encoder and a decoder")
    has_head = shape.prediction_head or not shape.prediction_head_bias
    require(shape, "prediction_head_bias", has_head, "has no effect without prediction_head")
    _check_windows(shape)
    _check_rope_scaling(shape)


def _check_windows(shape: Shape) -> None:
    has_window = shape.sliding_window is not None
    without = "has no effect without sliding_window"
    require(shape, "decoder_sliding_window", shape.decoder_sliding_window is None or has_window, without)
    require(shape, "local_rope_base", shape.local_rope_base is None or has_window, without)
    in_group = 0 <= shape.first_global < shape.global_every
    require(shape, "first_global", in_group, f"must be below global_every = {shape.global_every}")


def _check_rope_scaling(shape: Shape) -> None:
    scaling = shape.rope_scaling
    if scaling is None:
        return
    is_rotary = shape.position_encoding == "rotary"
    require(shape, "rope_scaling", is_rotary, "goes with position_encoding = 'rotary' only")
    positive = all(is_finite(value) and value > 0 for value in dataclasses.astuple(scaling))
    require(shape, "rope_scaling", positive, "must have positive, finite values only")
    ascending = scaling.low_freq_factor < scaling.high_freq_factor
    require(shape, "rope_scaling", ascending, "must have a low_freq_factor below its high_freq_factor")

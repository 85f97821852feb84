"""Which of a shape's fields go together, parts apart, which check themselves."""

from __future__ import annotations

import dataclasses

from triarch.errors import UserError, nearest
from triarch.fields import is_finite, require
from triarch.models.shape import SIDE_SIZES, Shape

# Which parametrizations have a use for each field of their base.
_BASES = {
    "base_d_model": ("mup", "complete_p"),
    "base_head_dim": ("mup", "complete_p"),
    "base_layers": ("complete_p",),
}
_DECODER_SIZES = tuple(f"decoder_{name}" for name in SIDE_SIZES)


def check_shape(shape: Shape) -> None:
    """Raises UserError, naming the field, for values that make no network."""
    layers = shape.num_encoder_layers + shape.num_decoder_layers
    require(shape, "num_decoder_layers", layers > 0, "must be positive where num_encoder_layers is 0")
    in_vocabulary = 0 <= shape.pad_id < shape.vocab_size
    require(shape, "pad_id", in_vocabulary, f"must be below vocab_size = {shape.vocab_size}")
    for name in _DECODER_SIZES:
        has_both = shape.architecture == "encoder-decoder" or getattr(shape, name) is None
        require(shape, name, has_both, "goes with an encoder and a decoder")
    _check_norms(shape)
    _check_windows(shape)
    _check_rope(shape)
    _check_parametrization(shape)


def _check_norms(shape: Shape) -> None:
    has_bias = not shape.norm_bias or shape.norm == "layernorm"
    require(shape, "norm_bias", has_bias, "goes with norm = 'layernorm' only")
    apart = not shape.parallel_residual or shape.norm_position != "post"
    require(shape, "parallel_residual", apart, "does not go with norm_position = 'post'")
    is_pre = shape.norm_position == "pre" or shape.first_attention_norm
    require(shape, "first_attention_norm", is_pre, "goes with norm_position = 'pre' only")


def _check_windows(shape: Shape) -> None:
    has_window = shape.sliding_window is not None
    without = "has no effect without sliding_window"
    require(shape, "decoder_sliding_window", shape.decoder_sliding_window is None or has_window, without)
    require(shape, "local_rope_base", shape.local_rope_base is None or has_window, without)
    in_group = 0 <= shape.first_global < shape.global_every
    require(shape, "first_global", in_group, f"must be below global_every = {shape.global_every}")


def _check_parametrization(shape: Shape) -> None:
    kind = shape.parametrization
    for name, kinds in _BASES.items():
        has_use = getattr(shape, name) is None or kind in kinds
        require(shape, name, has_use, f"goes with parametrization = {' or '.join(map(repr, kinds))} only")
    if kind == "standard":
        return
    require(shape, "base_d_model", shape.base_d_model is not None, f"must be set for parametrization = {kind!r}")
    has_depth = kind != "complete_p" or bool(shape.base_layers)
    require(shape, "base_layers", has_depth, "must be set, to 1 or more, for parametrization = 'complete_p'")
    one_width = shape.of_side("decoder").d_model == shape.d_model
    require(shape, "parametrization", one_width, "goes with sides of one d_model")


def _check_rope(shape: Shape) -> None:
    is_rotary = shape.position_encoding == "rotary"
    require(shape, "rope_fraction", is_rotary or shape.rope_fraction == 1, "goes with position_encoding = 'rotary'")
    width = 2 if shape.rope is None else shape.rope.width(shape.head_dim)
    even = width > 0 and width % 2 == 0
    require(shape, "head_dim", even or shape.rope_fraction != 1, "must be even: rotation is of pairs")
    require(shape, "rope_fraction", even, f"must make an even part of head_dim = {shape.head_dim}")
    rotary_only = shape.rope_scaling is None or is_rotary
    require(shape, "rope_scaling", rotary_only, "goes with position_encoding = 'rotary' only")
    _check_rope_scaling(shape)


# What each kind of `RopeScaling` needs besides its factor.
_SCALINGS = {
    "llama3": ("low_freq_factor", "high_freq_factor", "original_length"),
    "linear": (),
    "dynamic": ("original_length",),
    "yarn": ("original_length",),
}


def _check_rope_scaling(shape: Shape) -> None:
    scaling = shape.rope_scaling
    if scaling is None:
        return
    if not isinstance(scaling.kind, str) or scaling.kind not in _SCALINGS:
        hint = nearest(str(scaling.kind), _SCALINGS)
        raise UserError(f"ModelConfig.rope_scaling: RopeScaling.kind = {scaling.kind!r}{hint}")
    for name in _SCALINGS["llama3"]:
        needed = name in _SCALINGS[scaling.kind]
        expectation = f"must {'' if needed else 'not '}have {name} for kind = {scaling.kind!r}"
        require(shape, "rope_scaling", (getattr(scaling, name) is not None) == needed, expectation)
    values = (value for name, value in dataclasses.asdict(scaling).items() if name not in ("kind", "truncate"))
    positive = all(value is None or (is_finite(value) and value > 0) for value in values)
    require(shape, "rope_scaling", positive, "must have positive, finite values only")
    require(shape, "rope_scaling", isinstance(scaling.truncate, bool), "must have truncate = True or False")
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    ascending = low is None or high is None or low < high
    require(shape, "rope_scaling", ascending, "must have a low_freq_factor below its high_freq_factor")
    descending = scaling.beta_slow < scaling.beta_fast
    require(shape, "rope_scaling", descending, "must have a beta_slow below its beta_fast")
    wide = scaling.kind != "dynamic" or (shape.rope is not None and shape.rope.width(shape.head_dim) > 2)
    require(shape, "rope_scaling", wide, "must rotate more than one pair of each head for kind = 'dynamic'")
    grows = scaling.kind != "yarn" or shape.rope_base > 1
    require(shape, "rope_base", grows, "must be above 1 for a rope_scaling of kind = 'yarn'")

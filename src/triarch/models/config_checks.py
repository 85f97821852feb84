"""Which values of a `ModelConfig` make a network."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import typing
from typing import TYPE_CHECKING, Any, Literal

from triarch.errors import UserError, nearest
from triarch.models.rope import RopeScaling

if TYPE_CHECKING:
    from triarch.models.config import ModelConfig

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
# Of an array's dimension, and of the counter of steps: they are int32.
MOST_SIZE = 2**31 - 1
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


def check(config: ModelConfig) -> None:
    """Raises UserError, naming the field, for values that make no network."""
    _check_choices(config)
    _check_kinds(config)
    for name in _SIZES + _POSITIVE:
        _require(config, name, getattr(config, name) is None or getattr(config, name) > 0, "must be positive")
    for name in _COUNTS:
        _require(config, name, (getattr(config, name) or 0) >= 0, "must not be negative")
    fits = config.num_heads * config.head_dim <= MOST_SIZE
    _require(config, "head_dim", fits, f"times num_heads must be at most {MOST_SIZE:,}")
    for name, most in _MOST.items():
        _require(config, name, (getattr(config, name) or 0) <= most, f"must be at most {most:,}")
    layers = config.num_encoder_layers + config.num_decoder_layers
    _require(config, "num_decoder_layers", layers > 0, "must be positive where num_encoder_layers is 0")
    shares = config.num_kv_heads is None or (config.num_kv_heads > 0 and config.num_heads % config.num_kv_heads == 0)
    _require(config, "num_kv_heads", shares, f"must divide num_heads = {config.num_heads}")
    in_vocabulary = 0 <= config.pad_id < config.vocab_size
    _require(config, "pad_id", in_vocabulary, f"must be below vocab_size = {config.vocab_size}")
    _check_norms(config)
    _check_positions(config)
    _check_sides(config)
    has_head = config.prediction_head or not config.prediction_head_bias
    _require(config, "prediction_head_bias", has_head, "has no effect without prediction_head")


def _check_sides(config: ModelConfig) -> None:
    two_sided = config.architecture == "encoder-decoder"
    decoder = config.of_side("decoder")
    if decoder is not config:
        for name in ("d_model", "d_ff", "num_heads", "head_dim", "num_kv_heads"):
            unset = getattr(config, f"decoder_{name}") is None
            _require(config, f"decoder_{name}", two_sided or unset, "goes with an encoder and a decoder")
        as_wide = decoder.d_model == config.d_model or not config.shared_embeddings
        _require(config, "shared_embeddings", as_wide, "goes with sides of one d_model")
        try:
            check(decoder)
        except UserError as error:
            raise UserError(f"{error} (of the decoder)") from None
    _require(config, "shared_embeddings", config.shared_embeddings or two_sided, "goes with an encoder and a decoder")
    has_window = config.decoder_sliding_window is None or config.sliding_window is not None
    _require(config, "decoder_sliding_window", has_window, "has no effect without sliding_window")


def _check_norms(config: ModelConfig) -> None:
    has_bias = not config.norm_bias or config.norm == "layernorm"
    _require(config, "norm_bias", has_bias, "goes with norm = 'layernorm' only")
    once = config.qk_norm == "none" or not config.qkv_norm
    _require(config, "qk_norm", once, "goes with qkv_norm = False only")
    apart = not config.parallel_residual or config.norm_position != "post"
    _require(config, "parallel_residual", apart, "does not go with norm_position = 'post'")
    skips_norm = not config.first_attention_norm
    is_pre = config.norm_position == "pre" or not skips_norm
    _require(config, "first_attention_norm", is_pre, "goes with norm_position = 'pre' only")


def _check_positions(config: ModelConfig) -> None:
    kind = config.position_encoding
    is_rotary = kind == "rotary"
    in_head = 0 < config.rope_fraction <= 1
    _require(config, "rope_fraction", in_head, "must be above 0 and at most 1")
    _require(config, "rope_fraction", is_rotary or config.rope_fraction == 1, "goes with position_encoding = 'rotary'")
    width = config.rope.width(config.head_dim) if is_rotary else 2
    whole = config.rope_fraction == 1
    even = width > 0 and width % 2 == 0
    _require(config, "head_dim", even or not whole, "must be even: rotary positions turn pairs")
    _require(config, "rope_fraction", even, f"must make an even part of head_dim = {config.head_dim}")
    rotary_only = config.rope_scaling is None or is_rotary
    _require(config, "rope_scaling", rotary_only, "goes with position_encoding = 'rotary' only")
    local_only = config.local_rope_base is None or config.sliding_window is not None
    _require(config, "local_rope_base", local_only, "has no effect without sliding_window")
    in_group = 0 <= config.first_global < config.global_every
    _require(config, "first_global", in_group, f"must be below global_every = {config.global_every}")
    rows = config.learned_positions
    if kind == "learned":
        _require(config, "learned_positions", rows is not None, "must be set for position_encoding = 'learned'")
        enough = rows is not None and rows > config.learned_position_offset
        _require(config, "learned_positions", enough, "must exceed learned_position_offset")
        begins_anew = config.architecture != "encoder-decoder" or config.decoder_positions == "restart"
        _require(config, "decoder_positions", begins_anew, "goes beyond a table of learned_positions: use 'restart'")
    else:
        _require(config, "learned_positions", rows is None, "goes with position_encoding = 'learned' only")
    has_tables = kind == "relative_bias" or not config.relative_bias_per_layer
    _require(config, "relative_bias_per_layer", has_tables, "goes with position_encoding = 'relative_bias' only")
    if kind == "relative_bias":
        exact = config.relative_buckets // (4 if config.num_encoder_layers else 2)
        _require(config, "relative_buckets", exact > 0, "must be at least 4 in an encoder, 2 in a decoder")
        reach = config.relative_max_distance > exact
        _require(config, "relative_max_distance", reach, f"must exceed the {exact} distances with own buckets")

    _check_rope_scaling(config)


# What each kind of `RopeScaling` needs besides its factor.
_SCALINGS = {
    "llama3": ("low_freq_factor", "high_freq_factor", "original_length"),
    "linear": (),
    "dynamic": ("original_length",),
    "yarn": ("original_length",),
}


def _check_rope_scaling(config: ModelConfig) -> None:
    scaling = config.rope_scaling
    if scaling is None:
        return
    _require(config, "rope_scaling", isinstance(scaling, RopeScaling), "must be a RopeScaling")
    if not isinstance(scaling.kind, str) or scaling.kind not in _SCALINGS:
        hint = nearest(str(scaling.kind), _SCALINGS)
        raise UserError(f"ModelConfig.rope_scaling: RopeScaling.kind = {scaling.kind!r}{hint}")
    for name in _SCALINGS["llama3"]:
        needed = name in _SCALINGS[scaling.kind]
        expectation = f"must {'' if needed else 'not '}have {name} for kind = {scaling.kind!r}"
        _require(config, "rope_scaling", (getattr(scaling, name) is not None) == needed, expectation)
    values = (value for name, value in dataclasses.asdict(scaling).items() if name not in ("kind", "truncate"))
    positive = all(value is None or (_is_finite(value) and value > 0) for value in values)
    _require(config, "rope_scaling", positive, "must have positive, finite values only")
    _require(config, "rope_scaling", isinstance(scaling.truncate, bool), "must have truncate = True or False")
    ascending = scaling.kind != "llama3" or scaling.low_freq_factor < scaling.high_freq_factor
    _require(config, "rope_scaling", ascending, "must have a low_freq_factor below its high_freq_factor")
    descending = scaling.beta_slow < scaling.beta_fast
    _require(config, "rope_scaling", descending, "must have a beta_slow below its beta_fast")
    wide = scaling.kind != "dynamic" or config.rope.width(config.head_dim) > 2
    _require(config, "rope_scaling", wide, "must rotate more than one pair of each head for kind = 'dynamic'")
    grows = scaling.kind != "yarn" or config.rope_base > 1
    _require(config, "rope_base", grows, "must be above 1 for a rope_scaling of kind = 'yarn'")


def _check_kinds(config: ModelConfig) -> None:
    """Numbers of layers, heads and the like are whole, all other numbers finite."""
    for name, kinds in _kinds(type(config)).items():
        value = getattr(config, name)
        if (name in _choices(type(config)) and isinstance(value, str)) or (value is None and type(None) in kinds):
            continue
        if float in kinds:
            _require(config, name, _is_finite(value), "must be a finite number")
        elif bool in kinds:
            _require(config, name, isinstance(value, bool), "must be True or False")
        elif int in kinds:
            is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
            _require(config, name, is_whole, "must be a whole number")


def _is_finite(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


@functools.cache
def _kinds(kind: type) -> dict[str, tuple[type, ...]]:
    """Returns the types allowed for each field."""
    return {name: (hint, *typing.get_args(hint)) for name, hint in typing.get_type_hints(kind).items()}


def _check_choices(config: ModelConfig) -> None:
    for field, allowed in _choices(type(config)).items():
        value = getattr(config, field)
        if value not in allowed and not (isinstance(value, int | float) and field.endswith("_scale")):
            raise UserError(f"ModelConfig.{field} = {value!r}{nearest(str(value), allowed)}")


@functools.cache
def _choices(kind: type) -> dict[str, tuple[str, ...]]:
    """Returns the words allowed for each field that takes words."""
    options = {name: [hint, *typing.get_args(hint)] for name, hint in typing.get_type_hints(kind).items()}
    return {
        name: typing.get_args(hint)
        for name, hints in options.items()
        for hint in hints
        if typing.get_origin(hint) is Literal
    }


def _require(config: ModelConfig, field: str, condition: Any, expectation: str) -> None:
    if not condition:
        raise UserError(f"ModelConfig.{field} = {getattr(config, field)!r} {expectation}")

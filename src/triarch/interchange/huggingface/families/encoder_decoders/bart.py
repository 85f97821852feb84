"""BART: `BartForConditionalGeneration` (arXiv 1910.13461), whose token i reads row i + 2 of the position tables.

`final_logits_bias` is a buffer of zeros as published, which no parameter of ours stands for; where it is not zero, our
`logits_bias` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triarch.interchange.huggingface.family import Family, special_ids
from triarch.interchange.huggingface.fields import ORIGINAL_TRANSFORMER, ConfigFields, activation_name, own_sizes
from triarch.interchange.huggingface.table import TensorRule, linear, norm, same
from triarch.models import ModelConfig

_OFFSET = 2
# The class does not make this an option.
_NORM_EPS = 1e-5
_LOGITS_BIAS = "final_logits_bias"


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    # Untied, the class has separate tables for the two sides and for nothing.
    fields.only("tie_word_embeddings", True)
    d_model = fields.count("d_model", 1024)
    encoder, decoder = (_sizes(fields, side, d_model) for side in ("encoder", "decoder"))
    return ModelConfig(
        **ORIGINAL_TRANSFORMER,
        vocab_size=fields.count("vocab_size", 50265),
        d_model=d_model,
        **encoder,
        **own_sizes(encoder, decoder),
        num_encoder_layers=fields.count("encoder_layers", 12),
        num_decoder_layers=fields.count("decoder_layers", 12),
        activation=fields.activation("activation_function", "gelu"),
        norm_eps=_NORM_EPS,
        learned_positions=fields.count("max_position_embeddings", 1024) + _OFFSET,
        learned_position_offset=_OFFSET,
        decoder_positions="restart",
        embedding_scale="sqrt_d_model" if fields.flag("scale_embedding", False) else 1.0,
        logits_bias=fields.tensors.has_nonzero(_LOGITS_BIAS),
        pad_id=fields.pad_id(1),
    )


def _sizes(fields: ConfigFields, side: str, d_model: int) -> dict[str, Any]:
    num_heads = fields.count(f"{side}_attention_heads", 16)
    return {"d_ff": fields.count(f"{side}_ffn_dim", 4096), "num_heads": num_heads, "head_dim": d_model // num_heads}


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    sides = {side: config.of_side(side) for side in ("encoder", "decoder")}
    return {
        "vocab_size": config.vocab_size,
        "d_model": config.d_model,
        "encoder_layers": config.num_encoder_layers,
        "decoder_layers": config.num_decoder_layers,
        **{f"{side}_ffn_dim": own.d_ff for side, own in sides.items()},
        **{f"{side}_attention_heads": own.num_heads for side, own in sides.items()},
        "activation_function": activation_name(config.activation, tanh="gelu_new"),
        "max_position_embeddings": max(1, (config.learned_positions or 0) - _OFFSET),
        "scale_embedding": config.embedding_scale != 1.0,
        "pad_token_id": config.pad_id,
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
    }


def special(roles: Mapping[str, int]) -> dict[str, Any]:
    """Returns special ids by role; of the class's own default, to end with eos whatever comes, nothing is left."""
    forced = {"forced_eos_token_id": None} if "bos" in roles else {}
    return special_ids(roles) | forced


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    return (
        same("model.shared.weight", "embedding/table"),
        *_stack("encoder"),
        *_stack("decoder"),
        TensorRule(_LOGITS_BIAS, ("logits_bias",), ones=(0,)),
    )


def _stack(side: str) -> list[TensorRule]:
    layer, ours = f"model.{side}.layers.{{layer}}", f"{side}/{{layer}}"
    cross = [
        *_attention(f"{layer}.encoder_attn", f"{ours}/cross_attention"),
        *norm(f"{layer}.encoder_attn_layer_norm", f"{ours}/cross_norm"),
    ]
    return [
        same(f"model.{side}.embed_positions.weight", f"{side}_input/positions"),
        *norm(f"model.{side}.layernorm_embedding", f"{side}_input/norm"),
        *_attention(f"{layer}.self_attn", f"{ours}/attention"),
        *norm(f"{layer}.self_attn_layer_norm", f"{ours}/attention_norm"),
        *(cross if side == "decoder" else ()),
        *linear(f"{layer}.fc1", f"{ours}/mlp/up"),
        *linear(f"{layer}.fc2", f"{ours}/mlp/down"),
        *norm(f"{layer}.final_layer_norm", f"{ours}/mlp_norm"),
    ]


def _attention(theirs: str, ours: str) -> list[TensorRule]:
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}
    return [rule for part, name in names.items() for rule in linear(f"{theirs}.{part}", f"{ours}/{name}")]


FAMILY = Family(
    name="bart",
    model_type="bart",
    class_name="BartForConditionalGeneration",
    read=read,
    write=write,
    rules=rules,
    bodies=("BartModel",),
    prefix="model.",
    copies={
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
        "lm_head.weight": "model.shared.weight",
    },
    zeros=lambda config: {} if config.logits_bias else {_LOGITS_BIAS: (1, config.vocab_size)},
    labels_start=lambda fields: fields.get("decoder_start_token_id", 2),
    special=special,
    ignored=(r"\.embed_positions\._float_tensor$", r"^model\.(en|de)coder\.version$"),
)

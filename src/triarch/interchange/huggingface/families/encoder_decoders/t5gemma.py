"""T5Gemma: `T5GemmaForConditionalGeneration` (arXiv 2504.06225), a Gemma 2 on each side.

The two sides have input embeddings of their own; the output matrix is tied to the decoder's. A window of W tokens
means W on each side of an encoder's query, and W that end with the query itself in a decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triarch.interchange.huggingface.family import Family, special_ids
from triarch.interchange.huggingface.fields import (
    ConfigFields,
    activation_name,
    layer_types,
    own_sizes,
    rope_parameters,
)
from triarch.interchange.huggingface.table import TensorRule, linear, norm, same
from triarch.models import ModelConfig
from triarch.models.shape import SIDE_SIZES, Side

_SIDES = ("encoder", "decoder")


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    sides = [_read_side(fields.inner(side)) for side in _SIDES]
    sizes = own_sizes(*({name: side[name] for name in SIDE_SIZES} for side in sides))
    for name, value in sides[0].items():
        if value != sides[1][name] and name not in SIDE_SIZES:
            raise fields.no_equivalent(f"{name}, encoder and decoder", (value, sides[1][name]))
    layers = {side: fields.inner(side).count("num_hidden_layers", 26) for side in _SIDES}
    patterns = [_global_layers(fields.inner(side), layers[side]) for side in _SIDES]
    if patterns[0] != patterns[1]:
        raise fields.no_equivalent("layer_types, encoder and decoder", tuple(patterns))
    decoder, shared = fields.inner("decoder"), sides[0]
    window = shared.pop("sliding_window")
    every, first = patterns[0] or (1, 0)
    return ModelConfig(
        **shared,
        **sizes,
        num_encoder_layers=layers["encoder"],
        num_decoder_layers=layers["decoder"],
        norm_scale="one_plus_gain",
        norm_position="pre_and_post",
        sliding_window=window if patterns[0] else None,
        decoder_sliding_window=window - 1 if patterns[0] else None,
        global_every=every,
        first_global=first,
        decoder_positions="restart",
        cross_attention_rope=False,
        embedding_scale="sqrt_d_model",
        shared_embeddings=False,
        tied_embeddings=fields.flag("tie_word_embeddings", True),
        logits_softcap=decoder.get("final_logit_softcapping", 30.0),
    )


def _read_side(fields: ConfigFields) -> dict[str, Any]:
    """Returns what the two sides have in common."""
    base, scaling = fields.rope(10_000.0)
    if scaling is not None:
        raise fields.no_equivalent("rope_type", scaling.kind)
    return {
        "vocab_size": fields.count("vocab_size", 256_000),
        "d_model": fields.count("hidden_size", 2304),
        "d_ff": fields.count("intermediate_size", 9216),
        "num_heads": fields.count("num_attention_heads", 8),
        "num_kv_heads": fields.count("num_key_value_heads", 4),
        "head_dim": fields.count("head_dim", 256),
        "activation": fields.activation("hidden_activation", "gelu_pytorch_tanh"),
        "norm_eps": fields.number("rms_norm_eps", 1e-6),
        "attention_bias": fields.flag("attention_bias", False),
        "attention_scale": fields.number("query_pre_attn_scalar", 256) ** -0.5,
        "attention_softcap": fields.get("attn_logit_softcapping", 50.0),
        "sliding_window": fields.count("sliding_window", 4096),
        "rope_base": base,
        "pad_id": fields.pad_id(0),
    }


def _global_layers(fields: ConfigFields, num_layers: int) -> tuple[int, int] | None:
    return fields.global_layers(num_layers, layer_types(num_layers, 2, 1))


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    return {
        "encoder": _write_side(config, "encoder"),
        "decoder": _write_side(config, "decoder"),
        "vocab_size": config.vocab_size,
        "is_encoder_decoder": True,
        "tie_word_embeddings": config.tied_embeddings,
    }


def _write_side(config: ModelConfig, side: Side) -> dict[str, Any]:
    num_layers, config = config.num_layers(side), config.of_side(side)
    local = config.sliding_window is not None
    pattern = (config.global_every, config.first_global) if local else (1, 0)
    return {
        "model_type": "t5_gemma_module",
        "is_decoder": side == "decoder",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_activation": activation_name(config.activation),
        "rms_norm_eps": config.norm_eps,
        "attention_bias": config.attention_bias,
        # The class wants a whole number.
        "query_pre_attn_scalar": round(config.attention_factor**-2),
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.logits_softcap,
        "sliding_window": config.sliding_window if local else 4096,
        "layer_types": layer_types(num_layers, *pattern),
        "rope_parameters": rope_parameters(config.rope_base, None),
        "pad_token_id": config.pad_id,
        "tie_word_embeddings": config.tied_embeddings,
    }


def special(roles: Mapping[str, int]) -> dict[str, Any]:
    """Returns special ids by role: both sides have their own, and the decoder's bos is what it reads first."""
    sides = special_ids({role: index for role, index in roles.items() if role in ("pad", "bos", "eos")})
    start = {"bos_token_id": roles["decoder_start"]} if "decoder_start" in roles else {}
    return {**special_ids(roles), "encoder": sides, "decoder": {**sides, **start}}


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    return (
        same("model.encoder.embed_tokens.weight", "embedding/encoder_table"),
        same("model.decoder.embed_tokens.weight", "embedding/table"),
        *_stack("encoder"),
        *_stack("decoder"),
        same("lm_head.out_proj.weight", "embedding/output"),
    )


def _stack(side: str) -> list[TensorRule]:
    layer, ours = f"model.{side}.layers.{{layer}}", f"{side}/{{layer}}"
    cross = [*_attention(f"{layer}.cross_attn", f"{ours}/cross_attention"), *_norms(layer, "cross_attn", ours, "cross")]
    return [
        *_attention(f"{layer}.self_attn", f"{ours}/attention"),
        *_norms(layer, "self_attn", ours, "attention"),
        *(cross if side == "decoder" else ()),
        *(rule for name in ("gate", "up", "down") for rule in linear(f"{layer}.mlp.{name}_proj", f"{ours}/mlp/{name}")),
        *_norms(layer, "feedforward", ours, "mlp"),
        *norm(f"model.{side}.norm", f"{side}/final_norm"),
    ]


def _norms(layer: str, theirs: str, ours: str, name: str) -> list[TensorRule]:
    return [
        *norm(f"{layer}.pre_{theirs}_layernorm", f"{ours}/{name}_norm"),
        *norm(f"{layer}.post_{theirs}_layernorm", f"{ours}/post_{name}_norm"),
    ]


def _attention(theirs: str, ours: str) -> list[TensorRule]:
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "output"}
    return [rule for part, name in names.items() for rule in linear(f"{theirs}.{part}", f"{ours}/{name}")]


FAMILY = Family(
    name="t5gemma",
    model_type="t5gemma",
    class_name="T5GemmaForConditionalGeneration",
    read=read,
    write=write,
    rules=rules,
    labels_start=lambda fields: (fields.get("decoder") or {}).get("bos_token_id", 2),
    special=special,
    copies={"lm_head.out_proj.weight": "model.decoder.embed_tokens.weight"},
)

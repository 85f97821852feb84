"""Llama 1 to 3.2 and what shares its class, such as SmolLM2: `LlamaForCausalLM` (arXiv 2302.13971, 2407.21783)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields, activation_name, original_length, rope_parameters
from triarch.interchange.huggingface.table import TensorRule, linear, norm, same
from triarch.models import ModelConfig


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    base, scaling = fields.rope(10_000.0)
    d_model, num_heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    return ModelConfig(
        vocab_size=fields.count("vocab_size"),
        d_model=d_model,
        d_ff=fields.count("intermediate_size"),
        num_heads=num_heads,
        head_dim=d_model // num_heads if fields.get("head_dim", None) is None else fields.count("head_dim"),
        num_decoder_layers=fields.count("num_hidden_layers"),
        num_kv_heads=fields.get("num_key_value_heads", None),
        activation=fields.activation("hidden_act", "silu"),
        mlp_bias=fields.flag("mlp_bias", False),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        attention_bias=fields.flag("attention_bias", False),
        rope_base=base,
        rope_scaling=scaling,
        tied_embeddings=fields.flag("tie_word_embeddings", False),
        pad_id=fields.pad_id(None),
    )


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.num_decoder_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": activation_name(config.activation),
        "rms_norm_eps": config.norm_eps,
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "rope_parameters": rope_parameters(config.rope_base, config.rope_scaling),
        "tie_word_embeddings": config.tied_embeddings,
        **original_length(config.rope_scaling),
    }


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    layer, ours = "model.layers.{layer}", "decoder/{layer}"
    return (
        same("model.embed_tokens.weight", "embedding/table"),
        *norm(f"{layer}.input_layernorm", f"{ours}/attention_norm"),
        *linear(f"{layer}.self_attn.q_proj", f"{ours}/attention/query"),
        *linear(f"{layer}.self_attn.k_proj", f"{ours}/attention/key"),
        *linear(f"{layer}.self_attn.v_proj", f"{ours}/attention/value"),
        *linear(f"{layer}.self_attn.o_proj", f"{ours}/attention/output"),
        *norm(f"{layer}.post_attention_layernorm", f"{ours}/mlp_norm"),
        *linear(f"{layer}.mlp.gate_proj", f"{ours}/mlp/gate"),
        *linear(f"{layer}.mlp.up_proj", f"{ours}/mlp/up"),
        *linear(f"{layer}.mlp.down_proj", f"{ours}/mlp/down"),
        *norm("model.norm", "decoder/final_norm"),
        same("lm_head.weight", "embedding/output"),
    )


FAMILY = Family(
    name="llama",
    model_type="llama",
    class_name="LlamaForCausalLM",
    read=read,
    write=write,
    rules=rules,
    objective={"class": "CausalLM"},
    bodies=("LlamaModel",),
    prefix="model.",
    copies={"lm_head.weight": "model.embed_tokens.weight"},
    ignored=(r"rotary_emb\.inv_freq$",),
)

"""GPT-2: `GPT2LMHeadModel` (Radford et al. 2019), whose matrices map rows to columns as ours do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields, activation_name
from triarch.interchange.huggingface.table import TensorRule, norm, same
from triarch.models import ModelConfig


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    fields.only("scale_attn_by_inverse_layer_idx", False)
    fields.only("add_cross_attention", False)
    d_model, num_heads = fields.count("n_embd", 768), fields.count("n_head", 12)
    return ModelConfig(
        vocab_size=fields.count("vocab_size", 50257),
        d_model=d_model,
        d_ff=fields.get("n_inner", None) or 4 * d_model,
        num_heads=num_heads,
        head_dim=d_model // num_heads,
        num_decoder_layers=fields.count("n_layer", 12),
        activation=fields.activation("activation_function", "gelu_new"),
        gated_mlp=False,
        mlp_bias=True,
        norm="layernorm",
        norm_bias=True,
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        attention_bias=True,
        attention_scale="rsqrt_head_dim" if fields.flag("scale_attn_weights", True) else 1.0,
        position_encoding="learned",
        learned_positions=fields.count("n_positions", 1024),
        tied_embeddings=fields.flag("tie_word_embeddings", True),
        pad_id=fields.pad_id(None),
    )


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.learned_positions or 1,
        "n_embd": config.d_model,
        "n_layer": config.num_decoder_layers,
        "n_head": config.num_heads,
        "n_inner": config.d_ff,
        "activation_function": activation_name(config.activation, tanh="gelu_new"),
        "layer_norm_epsilon": config.norm_eps,
        "scale_attn_weights": config.attention_factor != 1.0,
        "tie_word_embeddings": config.tied_embeddings,
    }


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    layer, ours = "transformer.h.{layer}", "decoder/{layer}"
    attention = tuple(f"{ours}/attention/{name}" for name in ("query", "key", "value"))
    return (
        same("transformer.wte.weight", "embedding/table"),
        same("transformer.wpe.weight", "decoder_input/positions"),
        *norm(f"{layer}.ln_1", f"{ours}/attention_norm"),
        *_conv(f"{layer}.attn.c_attn", *attention),
        *_conv(f"{layer}.attn.c_proj", f"{ours}/attention/output"),
        *norm(f"{layer}.ln_2", f"{ours}/mlp_norm"),
        *_conv(f"{layer}.mlp.c_fc", f"{ours}/mlp/up"),
        *_conv(f"{layer}.mlp.c_proj", f"{ours}/mlp/down"),
        *norm("transformer.ln_f", "decoder/final_norm"),
        same("lm_head.weight", "embedding/output"),
    )


def _conv(theirs: str, *ours: str) -> tuple[TensorRule, TensorRule]:
    return same(f"{theirs}.weight", *ours), same(f"{theirs}.bias", *(f"{name}_bias" for name in ours))


FAMILY = Family(
    name="gpt2",
    model_type="gpt2",
    class_name="GPT2LMHeadModel",
    read=read,
    write=write,
    rules=rules,
    objective={"class": "CausalLM"},
    also=("GPT2DoubleHeadsModel",),
    bodies=("GPT2Model",),
    prefix="transformer.",
    copies={"lm_head.weight": "transformer.wte.weight"},
    ignored=(r"\.attn\.(masked_)?bias$", r"^multiple_choice_head\."),
)

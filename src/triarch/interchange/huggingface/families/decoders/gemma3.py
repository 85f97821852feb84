"""Gemma 3's text side: `Gemma3ForCausalLM` (arXiv 2503.19786), five local layers before each global one.

Norms stand before and after each sublayer and on each head's queries and keys; the two kinds of layers have bases of
their own. A window of W tokens ends with the query itself, hence W - 1 to its left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.families.decoders import llama, olmo2
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import (
    ConfigFields,
    activation_name,
    layer_types,
    original_length,
    rope_parameters,
)
from triarch.interchange.huggingface.table import TensorRule, norm
from triarch.models import ModelConfig


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    fields = fields.with_defaults({"max_position_embeddings": 131_072})
    fields.only("use_bidirectional_attention", False, None)
    num_layers = fields.count("num_hidden_layers", 26)
    every = fields.count("sliding_window_pattern", 6)
    pattern = fields.global_layers(num_layers, layer_types(num_layers, every, every - 1))
    base, scaling = fields.rope(fields.number("rope_theta", 1_000_000.0), "full_attention")
    # In older files it is said of global layers alone.
    unscaled = fields.without("rope_scaling")
    local_base, local_scaling = unscaled.rope(fields.number("rope_local_base_freq", 10_000.0), "sliding_attention")
    if local_scaling is not None and pattern is not None:
        raise fields.no_equivalent("rope_parameters, sliding_attention", local_scaling.kind)
    return ModelConfig(
        vocab_size=fields.count("vocab_size", 262_208),
        d_model=fields.count("hidden_size", 2304),
        d_ff=fields.count("intermediate_size", 9216),
        num_heads=fields.count("num_attention_heads", 8),
        num_kv_heads=fields.count("num_key_value_heads", 4),
        head_dim=fields.count("head_dim", 256),
        num_decoder_layers=num_layers,
        activation=fields.activation("hidden_activation", "gelu_pytorch_tanh"),
        norm_scale="one_plus_gain",
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        norm_position="pre_and_post",
        attention_bias=fields.flag("attention_bias", False),
        attention_scale=fields.number("query_pre_attn_scalar", 256) ** -0.5,
        qk_norm="per_head",
        sliding_window=fields.count("sliding_window", 4096) - 1 if pattern else None,
        global_every=pattern[0] if pattern else 1,
        first_global=pattern[1] if pattern else 0,
        rope_base=base,
        local_rope_base=local_base if pattern else None,
        rope_scaling=scaling,
        embedding_scale="sqrt_d_model",
        tied_embeddings=fields.flag("tie_word_embeddings", True),
        logits_softcap=fields.get("final_logit_softcapping", None),
        pad_id=fields.pad_id(0),
    )


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    local = config.sliding_window is not None
    pattern = (config.global_every, config.first_global) if local else (1, 0)
    local_base = config.local_rope_base or config.rope_base
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.num_decoder_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_activation": activation_name(config.activation),
        "rms_norm_eps": config.norm_eps,
        "attention_bias": config.attention_bias,
        # The class wants a whole number.
        "query_pre_attn_scalar": round(config.attention_factor**-2),
        "final_logit_softcapping": config.logits_softcap,
        **({} if config.sliding_window is None else {"sliding_window": config.sliding_window + 1}),
        "layer_types": layer_types(config.num_decoder_layers, *pattern),
        "rope_parameters": {
            "full_attention": rope_parameters(config.rope_base, config.rope_scaling),
            "sliding_attention": rope_parameters(local_base, None),
        },
        "pad_token_id": config.pad_id,
        "tie_word_embeddings": config.tied_embeddings,
        **original_length(config.rope_scaling),
    }


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors: Llama's, whose norm before the feed-forward layer is called otherwise here."""
    layer, ours = "model.layers.{layer}", "decoder/{layer}"
    others = (rule for rule in llama.rules(config) if not rule.theirs.startswith(f"{layer}.post_attention_layernorm"))
    return (
        *others,
        *olmo2.more_norms(),
        *norm(f"{layer}.pre_feedforward_layernorm", f"{ours}/mlp_norm"),
    )


FAMILY = Family(
    name="gemma3",
    model_type="gemma3_text",
    class_name="Gemma3ForCausalLM",
    read=read,
    write=write,
    rules=rules,
    objective={"class": "CausalLM"},
    bodies=("Gemma3TextModel",),
    prefix="model.",
    copies={"lm_head.weight": "model.embed_tokens.weight"},
)

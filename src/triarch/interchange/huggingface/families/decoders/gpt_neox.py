"""GPT-NeoX, the class of Pythia: `GPTNeoXForCausalLM` (arXiv 2204.06745, 2304.01373).

Attention and feed-forward layer read the same input, a part of each head is rotated, and one matrix holds queries, keys
and values, head by head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields, activation_name, original_length, rope_parameters
from triarch.interchange.huggingface.table import TensorRule, linear, norm, same
from triarch.models import ModelConfig


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    base, scaling = fields.rope(fields.number("rotary_emb_base", 10_000.0), partial=True)
    d_model, num_heads = fields.count("hidden_size", 6144), fields.count("num_attention_heads", 64)
    return ModelConfig(
        vocab_size=fields.count("vocab_size", 50432),
        d_model=d_model,
        d_ff=fields.count("intermediate_size", 24576),
        num_heads=num_heads,
        head_dim=d_model // num_heads,
        num_decoder_layers=fields.count("num_hidden_layers", 44),
        activation=fields.activation("hidden_act", "gelu"),
        gated_mlp=False,
        mlp_bias=True,
        norm="layernorm",
        norm_bias=True,
        norm_eps=fields.number("layer_norm_eps", 1e-5),
        parallel_residual=fields.flag("use_parallel_residual", True),
        attention_bias=fields.flag("attention_bias", True),
        rope_base=base,
        rope_scaling=scaling,
        rope_fraction=fields.rope_fraction(fields.number("rotary_pct", 0.25)),
        tied_embeddings=fields.flag("tie_word_embeddings", False),
        pad_id=fields.pad_id(None),
    )


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    rope = rope_parameters(config.rope_base, config.rope_scaling)
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.num_decoder_layers,
        "num_attention_heads": config.num_heads,
        "hidden_act": activation_name(config.activation, tanh="gelu_new"),
        "layer_norm_eps": config.norm_eps,
        "use_parallel_residual": config.parallel_residual,
        "attention_bias": config.attention_bias,
        "rope_parameters": rope | {"partial_rotary_factor": config.rope_fraction},
        # What transformers 4 reads in place of it.
        "rotary_emb_base": config.rope_base,
        "rotary_pct": config.rope_fraction,
        "tie_word_embeddings": config.tied_embeddings,
        **original_length(config.rope_scaling),
    }


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    layer, ours = "gpt_neox.layers.{layer}", "decoder/{layer}"
    attention = tuple(f"{ours}/attention/{name}" for name in ("query", "key", "value"))
    return (
        same("gpt_neox.embed_in.weight", "embedding/table"),
        *norm(f"{layer}.input_layernorm", f"{ours}/attention_norm"),
        *linear(f"{layer}.attention.query_key_value", *attention, groups=config.num_heads),
        *linear(f"{layer}.attention.dense", f"{ours}/attention/output"),
        *norm(f"{layer}.post_attention_layernorm", f"{ours}/mlp_norm"),
        *linear(f"{layer}.mlp.dense_h_to_4h", f"{ours}/mlp/up"),
        *linear(f"{layer}.mlp.dense_4h_to_h", f"{ours}/mlp/down"),
        *norm("gpt_neox.final_layer_norm", "decoder/final_norm"),
        same("embed_out.weight", "embedding/output"),
    )


FAMILY = Family(
    name="gpt_neox",
    model_type="gpt_neox",
    class_name="GPTNeoXForCausalLM",
    read=read,
    write=write,
    rules=rules,
    objective={"class": "CausalLM"},
    bodies=("GPTNeoXModel",),
    prefix="gpt_neox.",
    copies={"embed_out.weight": "gpt_neox.embed_in.weight"},
    ignored=(r"\.attention\.(masked_)?bias$", r"rotary_emb\.inv_freq$"),
)

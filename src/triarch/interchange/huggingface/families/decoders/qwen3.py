"""Qwen3: `Qwen3ForCausalLM` (arXiv 2505.09388), a Llama with a norm on each head's queries and keys.

A window of W tokens ends with the query itself, hence W - 1 to its left; layers with one are the last of the class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.families.decoders import llama
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields, layer_types
from triarch.interchange.huggingface.table import TensorRule, norm
from triarch.models import ModelConfig

_DEFAULTS = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 128,
    "max_position_embeddings": 32768,
}


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    config = llama.read(fields.with_defaults(_DEFAULTS))
    config = dataclasses.replace(config, mlp_bias=False, qk_norm="per_head")
    num_layers = config.num_decoder_layers
    has_window = fields.flag("use_sliding_window", False) and fields.get("sliding_window", 4096) is not None
    num_global = fields.count("max_window_layers", 28) if has_window else num_layers
    default = ["full_attention" if layer < num_global else "sliding_attention" for layer in range(num_layers)]
    pattern = fields.global_layers(num_layers, default)
    if pattern is None:
        return config
    if not has_window or config.rope_scaling is not None:
        raise fields.no_equivalent("layer_types", "sliding_attention")
    every, first = pattern
    window = fields.count("sliding_window", 4096)
    return dataclasses.replace(config, sliding_window=window - 1, global_every=every, first_global=first)


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    fields = llama.write(config)
    del fields["mlp_bias"]
    if config.sliding_window is None:
        return fields | {"use_sliding_window": False}
    types = layer_types(config.num_decoder_layers, config.global_every, config.first_global)
    return fields | {"use_sliding_window": True, "sliding_window": config.sliding_window + 1, "layer_types": types}


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    layer, ours = "model.layers.{layer}.self_attn", "decoder/{layer}/attention"
    return (
        *llama.rules(config),
        *norm(f"{layer}.q_norm", f"{ours}/query_norm"),
        *norm(f"{layer}.k_norm", f"{ours}/key_norm"),
    )


FAMILY = Family(
    name="qwen3",
    model_type="qwen3",
    class_name="Qwen3ForCausalLM",
    read=read,
    write=write,
    rules=rules,
    objective={"class": "CausalLM"},
    bodies=("Qwen3Model",),
    prefix="model.",
    copies={"lm_head.weight": "model.embed_tokens.weight"},
)

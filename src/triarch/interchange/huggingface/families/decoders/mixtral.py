"""Mixtral: `MixtralForCausalLM` (arXiv 2401.04088), a Llama with experts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.families.decoders import llama
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields
from triarch.interchange.huggingface.table import TensorRule, transposed
from triarch.models import ModelConfig
from triarch.models.layers.experts import Experts

_DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
}


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    fields.only("sliding_window", None)
    experts = Experts(
        num_experts=fields.count("num_local_experts", 8),
        per_token=fields.count("num_experts_per_tok", 2),
        balance_loss=fields.number("router_aux_loss_coef", 0.001),
    )
    base = 1_000_000.0
    config = llama.read(fields.with_defaults(_DEFAULTS | {"rope_theta": base}))
    return dataclasses.replace(config, mlp_bias=False, attention_bias=False, feed_forward=experts)


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    fields = llama.write(config)
    for name in ("attention_bias", "mlp_bias"):
        del fields[name]
    experts = config.feed_forward
    if not isinstance(experts, Experts):
        return fields
    return fields | {
        "intermediate_size": experts.width(config),
        "num_local_experts": experts.num_experts,
        "num_experts_per_tok": experts.per_token,
        "router_aux_loss_coef": experts.balance_loss,
    }


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    layer, ours = "model.layers.{layer}.block_sparse_moe", "decoder/{layer}/mlp"
    return (
        *(rule for rule in llama.rules(config) if ".mlp." not in rule.theirs),
        transposed(f"{layer}.gate.weight", f"{ours}/router"),
        transposed(f"{layer}.experts.{{expert}}.w1.weight", f"{ours}/gate"),
        transposed(f"{layer}.experts.{{expert}}.w3.weight", f"{ours}/up"),
        transposed(f"{layer}.experts.{{expert}}.w2.weight", f"{ours}/down"),
    )


FAMILY = Family(
    name="mixtral",
    model_type="mixtral",
    class_name="MixtralForCausalLM",
    read=read,
    write=write,
    rules=rules,
    objective={"class": "CausalLM"},
    bodies=("MixtralModel",),
    prefix="model.",
    copies={"lm_head.weight": "model.embed_tokens.weight"},
    ignored=(r"rotary_emb\.inv_freq$",),
)

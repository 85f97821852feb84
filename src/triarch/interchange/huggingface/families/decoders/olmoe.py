"""OLMoE: `OlmoeForCausalLM` (arXiv 2409.02060), a Llama with many small experts and norms on queries and keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.families.decoders import llama
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields
from triarch.interchange.huggingface.table import TensorRule, norm, transposed
from triarch.models import ModelConfig
from triarch.models.layers.experts import Experts

_DEFAULTS = {
    "vocab_size": 50304,
    "hidden_size": 2048,
    "intermediate_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 1,
}


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    fields.only("clip_qkv", None)
    experts = Experts(
        num_experts=fields.count("num_experts", 64),
        per_token=fields.count("num_experts_per_tok", 8),
        renormalised=fields.flag("norm_topk_prob", False),
        balance_loss=fields.number("router_aux_loss_coef", 0.01),
    )
    config = llama.read(fields.with_defaults(_DEFAULTS))
    return dataclasses.replace(config, mlp_bias=False, qk_norm="all_heads", feed_forward=experts)


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    fields = llama.write(config) | {"pad_token_id": config.pad_id}
    del fields["mlp_bias"]
    experts = config.feed_forward
    if not isinstance(experts, Experts):
        return fields
    return fields | {
        "intermediate_size": experts.width(config),
        "num_experts": experts.num_experts,
        "num_experts_per_tok": experts.per_token,
        "norm_topk_prob": experts.renormalised,
        "router_aux_loss_coef": experts.balance_loss,
    }


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    layer, ours = "model.layers.{layer}", "decoder/{layer}"
    experts = f"{layer}.mlp.experts.{{expert}}"
    return (
        *(rule for rule in llama.rules(config) if ".mlp." not in rule.theirs),
        *norm(f"{layer}.self_attn.q_norm", f"{ours}/attention/query_norm"),
        *norm(f"{layer}.self_attn.k_norm", f"{ours}/attention/key_norm"),
        transposed(f"{layer}.mlp.gate.weight", f"{ours}/mlp/router"),
        transposed(f"{experts}.gate_proj.weight", f"{ours}/mlp/gate"),
        transposed(f"{experts}.up_proj.weight", f"{ours}/mlp/up"),
        transposed(f"{experts}.down_proj.weight", f"{ours}/mlp/down"),
    )


FAMILY = Family(
    name="olmoe",
    model_type="olmoe",
    class_name="OlmoeForCausalLM",
    read=read,
    write=write,
    rules=rules,
    objective={"class": "CausalLM"},
    bodies=("OlmoeModel",),
    prefix="model.",
    copies={"lm_head.weight": "model.embed_tokens.weight"},
    ignored=(r"rotary_emb\.inv_freq$",),
)

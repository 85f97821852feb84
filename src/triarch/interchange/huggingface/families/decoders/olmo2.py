"""OLMo 2: `Olmo2ForCausalLM` (arXiv 2501.00656), a Llama with norms on outputs, queries and keys, none on inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.families.decoders import llama
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields
from triarch.interchange.huggingface.table import TensorRule, norm
from triarch.models import ModelConfig

_DEFAULTS = {
    "vocab_size": 50304,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 1,
}


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    config = llama.read(fields.with_defaults(_DEFAULTS))
    return dataclasses.replace(config, mlp_bias=False, norm_position="output", qk_norm="all_heads")


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    fields = llama.write(config) | {"pad_token_id": config.pad_id}
    del fields["mlp_bias"]
    return fields


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors; of Llama's, the norms on inputs have no parameter here."""
    return (*llama.rules(config), *more_norms())


def more_norms() -> tuple[TensorRule, ...]:
    """Returns the table of norms on queries, keys and what sublayers return."""
    layer, ours = "model.layers.{layer}", "decoder/{layer}"
    return (
        *norm(f"{layer}.self_attn.q_norm", f"{ours}/attention/query_norm"),
        *norm(f"{layer}.self_attn.k_norm", f"{ours}/attention/key_norm"),
        *norm(f"{layer}.post_attention_layernorm", f"{ours}/post_attention_norm"),
        *norm(f"{layer}.post_feedforward_layernorm", f"{ours}/post_mlp_norm"),
    )


FAMILY = Family(
    name="olmo2",
    model_type="olmo2",
    class_name="Olmo2ForCausalLM",
    read=read,
    write=write,
    rules=rules,
    objective={"class": "CausalLM"},
    bodies=("Olmo2Model",),
    prefix="model.",
    copies={"lm_head.weight": "model.embed_tokens.weight"},
    ignored=(r"rotary_emb\.inv_freq$",),
)

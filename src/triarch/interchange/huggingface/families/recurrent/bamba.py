"""Bamba: `BambaForCausalLM`, a Llama most of whose layers have Mamba-2 in place of attention."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from triarch.errors import UserError
from triarch.fields import is_whole
from triarch.interchange.huggingface.families.decoders import llama
from triarch.interchange.huggingface.families.recurrent import mamba2
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields
from triarch.interchange.huggingface.table import TensorRule, norm
from triarch.models import ModelConfig
from triarch.models.recurrent.mamba2 import Mamba2

_DEFAULTS = {
    "vocab_size": 128000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
}


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    fields = fields.with_defaults(_DEFAULTS)
    fields.only("mamba_proj_bias", False)
    fields.only("hidden_act", "silu")
    base, scaling = fields.rope(10_000.0, partial=True)
    heads, width = fields.count("mamba_n_heads", 128), fields.count("mamba_expand", 2) * fields.count("hidden_size")
    is_given = fields.get("mamba_d_head", "auto") not in ("auto", None)
    head_dim = fields.count("mamba_d_head") if is_given else width // max(heads, 1)
    if heads * head_dim != width:
        raise UserError(
            f"{fields.where}: mamba_n_heads * mamba_d_head = {heads * head_dim}: expected mamba_expand * hidden_size = "
            f"{width}"
        )
    layers = fields.get("attn_layer_indices", None) or []
    if not isinstance(layers, list) or not all(map(is_whole, layers)):
        raise UserError(f"{fields.where}: attn_layer_indices = {layers!r}: expected a list of whole numbers")
    body = llama.read(fields.without("rope_parameters").without("rope_scaling"))
    least_step, greatest_step = mamba2.step_limits(fields)
    return dataclasses.replace(
        body,
        rope_base=base,
        rope_scaling=scaling,
        rope_fraction=fields.rope_fraction(0.5),
        pad_id=fields.pad_id(0),
        mixer=Mamba2(
            state_dim=fields.count("mamba_d_state", 256),
            num_heads=heads,
            head_dim=head_dim,
            num_groups=fields.count("mamba_n_groups", 1),
            conv_width=fields.count("mamba_d_conv", 4),
            conv_bias=fields.flag("mamba_conv_bias", True),
            chunk_size=fields.count("mamba_chunk_size", 256),
            least_step=least_step,
            greatest_step=greatest_step,
        ),
        attention_layers=tuple(sorted(set(layers))),
    )


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    mixer = config.mixer if isinstance(config.mixer, Mamba2) else Mamba2()
    heads, width = mixer.heads(config), mixer.width(config)
    fields = llama.write(config)
    del fields["head_dim"]
    return fields | {
        "rope_parameters": fields["rope_parameters"] | {"partial_rotary_factor": config.rope_fraction},
        "attn_layer_indices": list(config.attention_layers),
        "mamba_n_heads": heads,
        "mamba_d_head": width // heads,
        "mamba_expand": width // config.d_model,
        "mamba_d_state": mixer.state_dim,
        "mamba_n_groups": mixer.num_groups,
        "mamba_d_conv": mixer.conv_width,
        "mamba_conv_bias": mixer.conv_bias,
        "mamba_proj_bias": False,
        "mamba_chunk_size": mixer.chunk_size,
        **mamba2.written_limits(mixer),
    }


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    layer, ours = "model.layers.{layer}", "decoder/{layer}"
    return (
        *(dataclasses.replace(rule, theirs=_renamed(rule.theirs)) for rule in llama.rules(config)),
        *norm(f"{layer}.input_layernorm", f"{ours}/mamba2_norm"),
        *mamba2.mixer_rules(f"{layer}.mamba", f"{ours}/mamba2"),
    )


def _renamed(name: str) -> str:
    """Returns a Llama's tensor as Bamba calls it."""
    name = name.replace(".post_attention_layernorm.", ".pre_ff_layernorm.").replace(".mlp.", ".feed_forward.")
    return name.replace("model.norm.", "model.final_layernorm.")


FAMILY = Family(
    name="bamba",
    model_type="bamba",
    class_name="BambaForCausalLM",
    read=read,
    write=write,
    rules=rules,
    objective={"class": "CausalLM"},
    bodies=("BambaModel",),
    prefix="model.",
    copies={"lm_head.weight": "model.embed_tokens.weight"},
    ignored=(r"rotary_emb\.inv_freq$",),
)

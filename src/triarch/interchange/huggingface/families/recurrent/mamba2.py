"""Mamba-2: `Mamba2ForCausalLM` (arXiv 2405.21060), a recurrence in every layer and no feed-forward layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from triarch.errors import UserError
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields
from triarch.interchange.huggingface.table import TensorRule, norm, same, transposed
from triarch.models import ModelConfig
from triarch.models.recurrent.mamba2 import Mamba2

# How JSON files of transformers write what JSON has no number for.
_INFINITY = {"__float__": "Infinity"}
_SIZES = ("hidden_size", 4096), ("num_heads", 128), ("head_dim", 64)


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    d_model, num_heads, head_dim = (fields.count(*one) for one in _SIZES)
    width, expanded = num_heads * head_dim, fields.number("expand", 2) * d_model
    if width != expanded:
        raise UserError(f"{fields.where}: num_heads * head_dim = {width}: expected expand * hidden_size = {expanded:g}")
    fields.only("use_bias", False)
    fields.only("hidden_act", "silu")
    least_step, greatest_step = step_limits(fields)
    return ModelConfig(
        vocab_size=fields.count("vocab_size", 32768),
        d_model=d_model,
        d_ff=0,
        num_heads=num_heads,
        head_dim=head_dim,
        num_decoder_layers=fields.count("num_hidden_layers", 64),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        mixer=Mamba2(
            state_dim=fields.count("state_size", 128),
            num_groups=fields.count("n_groups", 8),
            conv_width=fields.count("conv_kernel", 4),
            conv_bias=fields.flag("use_conv_bias", True),
            chunk_size=fields.count("chunk_size", 256),
            least_step=least_step,
            greatest_step=greatest_step,
        ),
        position_encoding="none",
        tied_embeddings=fields.flag("tie_word_embeddings", False),
        pad_id=fields.pad_id(1),
    )


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    mixer = config.mixer if isinstance(config.mixer, Mamba2) else Mamba2()
    width = mixer.width(config)
    expand = width // config.d_model if width % config.d_model == 0 else width / config.d_model
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_decoder_layers,
        "num_heads": mixer.heads(config),
        "head_dim": width // mixer.heads(config),
        "expand": expand,
        "state_size": mixer.state_dim,
        "n_groups": mixer.num_groups,
        "conv_kernel": mixer.conv_width,
        "use_bias": False,
        "use_conv_bias": mixer.conv_bias,
        "hidden_act": "silu",
        "chunk_size": mixer.chunk_size,
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tied_embeddings,
        **written_limits(mixer),
    }


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    layer, ours = "backbone.layers.{layer}", "decoder/{layer}"
    return (
        same("backbone.embeddings.weight", "embedding/table"),
        *norm(f"{layer}.norm", f"{ours}/mamba2_norm"),
        *mixer_rules(f"{layer}.mixer", f"{ours}/mamba2"),
        *norm("backbone.norm_f", "decoder/final_norm"),
        same("lm_head.weight", "embedding/output"),
    )


def mixer_rules(theirs: str, ours: str) -> tuple[TensorRule, ...]:
    """Returns the table of one mixer's tensors."""
    convolved = [f"{ours}/{name}_conv" for name in ("value", "key", "query")]
    projected = [f"{ours}/{name}" for name in ("gate", "value", "key", "query", "step")]
    return (
        transposed(f"{theirs}.in_proj.weight", *projected),
        TensorRule(f"{theirs}.conv1d.weight", tuple(convolved), transposed=True, ones=(1,)),
        same(f"{theirs}.conv1d.bias", *(f"{name}_bias" for name in convolved)),
        same(f"{theirs}.dt_bias", f"{ours}/step_bias"),
        same(f"{theirs}.A_log", f"{ours}/log_decay"),
        same(f"{theirs}.D", f"{ours}/skip"),
        same(f"{theirs}.norm.weight", f"{ours}/norm"),
        transposed(f"{theirs}.out_proj.weight", f"{ours}/output"),
    )


def step_limits(fields: ConfigFields) -> tuple[float, float | None]:
    """Returns least and greatest step size that a config.json allows; None: there is no greatest."""
    given = fields.get("time_step_limit", None)
    given = (0.0, math.inf) if given is None else given
    limits = [_number(one) for one in given] if isinstance(given, list | tuple) else []
    if len(limits) != 2 or limits[0] is None or limits[1] is None:
        raise UserError(f"{fields.where}: time_step_limit = {given!r}: expected two numbers")
    return limits[0], None if math.isinf(limits[1]) else limits[1]


def written_limits(mixer: Mamba2) -> dict[str, Any]:
    """Returns what `step_limits` reads; nothing if steps are as they come."""
    if mixer.greatest_step is None and not mixer.least_step:
        return {}
    return {"time_step_limit": [mixer.least_step, _INFINITY if mixer.greatest_step is None else mixer.greatest_step]}


def _number(value: Any) -> float | None:
    value = value.get("__float__") if isinstance(value, Mapping) else value
    if value == "Infinity":
        return math.inf
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


FAMILY = Family(
    name="mamba2",
    model_type="mamba2",
    class_name="Mamba2ForCausalLM",
    read=read,
    write=write,
    rules=rules,
    objective={"class": "CausalLM"},
    bodies=("Mamba2Model",),
    prefix="backbone.",
    renamed=(("backbone.embedding.weight", "backbone.embeddings.weight"),),
    copies={"lm_head.weight": "backbone.embeddings.weight"},
)

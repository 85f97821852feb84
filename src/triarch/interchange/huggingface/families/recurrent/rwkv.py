"""RWKV-4: `RwkvForCausalLM` (arXiv 2305.13048)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields
from triarch.interchange.huggingface.table import TensorRule, norm, same, transposed
from triarch.models import ModelConfig
from triarch.models.recurrent.rwkv import RwkvChannelMix, RwkvTimeMix

_HEAD_DIM = 64


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes.

    `rescale_every` halves activations and weights so that float16 holds them: it changes no output.
    """
    d_model = fields.count("hidden_size", 4096)
    has_width, has_inner = (fields.get(key, None) is not None for key in ("attention_hidden_size", "intermediate_size"))
    width = fields.count("attention_hidden_size") if has_width else d_model
    # Heads mean no more than how channels are split over devices.
    head_dim = _HEAD_DIM if width % _HEAD_DIM == 0 else width
    return ModelConfig(
        vocab_size=fields.count("vocab_size", 50277),
        d_model=d_model,
        d_ff=fields.count("intermediate_size") if has_inner else 4 * d_model,
        num_heads=width // max(head_dim, 1),
        head_dim=head_dim,
        num_decoder_layers=fields.count("num_hidden_layers", 32),
        mixer=RwkvTimeMix(),
        feed_forward=RwkvChannelMix(),
        norm="layernorm",
        norm_bias=True,
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        position_encoding="none",
        embedding_norm=True,
        tied_embeddings=fields.flag("tie_word_embeddings", False),
        pad_id=fields.pad_id(None),
    )


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "attention_hidden_size": config.heads_width,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.num_decoder_layers,
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tied_embeddings,
    }


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    layer, ours = "rwkv.blocks.{layer}", "decoder/{layer}"
    return (
        same("rwkv.embeddings.weight", "embedding/table"),
        *norm("rwkv.blocks.0.pre_ln", "decoder_input/norm"),
        *norm(f"{layer}.ln1", f"{ours}/time_mix_norm"),
        same(f"{layer}.attention.time_decay", f"{ours}/time_mix/decay"),
        same(f"{layer}.attention.time_first", f"{ours}/time_mix/bonus"),
        *_projections(f"{layer}.attention", f"{ours}/time_mix", ("key", "value", "receptance")),
        transposed(f"{layer}.attention.output.weight", f"{ours}/time_mix/output"),
        *norm(f"{layer}.ln2", f"{ours}/mlp_norm"),
        *_projections(f"{layer}.feed_forward", f"{ours}/mlp", ("key", "receptance")),
        transposed(f"{layer}.feed_forward.value.weight", f"{ours}/mlp/value"),
        *norm("rwkv.ln_out", "decoder/final_norm"),
        same("head.weight", "embedding/output"),
    )


def _projections(theirs: str, ours: str, names: Sequence[str]) -> list[TensorRule]:
    """Returns the tables of projections, each with the shares by which its input is mixed."""
    mixes = [TensorRule(f"{theirs}.time_mix_{name}", (f"{ours}/mix_{name}",), ones=(0, 1)) for name in names]
    return mixes + [transposed(f"{theirs}.{name}.weight", f"{ours}/{name}") for name in names]


FAMILY = Family(
    name="rwkv",
    model_type="rwkv",
    class_name="RwkvForCausalLM",
    read=read,
    write=write,
    rules=rules,
    objective={"class": "CausalLM"},
    bodies=("RwkvModel",),
    prefix="rwkv.",
    copies={"head.weight": "rwkv.embeddings.weight"},
)

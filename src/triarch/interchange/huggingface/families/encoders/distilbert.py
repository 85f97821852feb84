"""DistilBERT: `DistilBertForMaskedLM` (arXiv 1910.01108), a BERT of half the layers and without token types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ORIGINAL_TRANSFORMER, ConfigFields, activation_name
from triarch.interchange.huggingface.table import TensorRule, linear, norm, same
from triarch.models import ModelConfig

# The class does not make this an option.
_NORM_EPS = 1e-12


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes; sinusoidal positions are stored as learned ones are."""
    fields.only("tie_word_embeddings", True)
    d_model, num_heads = fields.count("dim", 768), fields.count("n_heads", 12)
    return ModelConfig(
        **ORIGINAL_TRANSFORMER,
        vocab_size=fields.count("vocab_size", 30522),
        d_model=d_model,
        d_ff=fields.count("hidden_dim", 3072),
        num_heads=num_heads,
        head_dim=d_model // num_heads,
        num_encoder_layers=fields.count("n_layers", 6),
        activation=fields.activation("activation", "gelu"),
        norm_eps=_NORM_EPS,
        learned_positions=fields.count("max_position_embeddings", 512),
        prediction_head=True,
        prediction_head_bias=True,
        logits_bias=True,
        pad_id=fields.pad_id(0),
    )


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    return {
        "vocab_size": config.vocab_size,
        "dim": config.d_model,
        "n_layers": config.num_encoder_layers,
        "n_heads": config.num_heads,
        "hidden_dim": config.d_ff,
        "activation": activation_name(config.activation, tanh="gelu_new"),
        "max_position_embeddings": config.learned_positions or 1,
        "pad_token_id": config.pad_id,
        "tie_word_embeddings": True,
    }


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    layer, ours = "distilbert.transformer.layer.{layer}", "encoder/{layer}"
    return (
        same("distilbert.embeddings.word_embeddings.weight", "embedding/table"),
        same("distilbert.embeddings.position_embeddings.weight", "encoder_input/positions"),
        *norm("distilbert.embeddings.LayerNorm", "encoder_input/norm"),
        *linear(f"{layer}.attention.q_lin", f"{ours}/attention/query"),
        *linear(f"{layer}.attention.k_lin", f"{ours}/attention/key"),
        *linear(f"{layer}.attention.v_lin", f"{ours}/attention/value"),
        *linear(f"{layer}.attention.out_lin", f"{ours}/attention/output"),
        *norm(f"{layer}.sa_layer_norm", f"{ours}/attention_norm"),
        *linear(f"{layer}.ffn.lin1", f"{ours}/mlp/up"),
        *linear(f"{layer}.ffn.lin2", f"{ours}/mlp/down"),
        *norm(f"{layer}.output_layer_norm", f"{ours}/mlp_norm"),
        *linear("vocab_transform", "prediction_head/dense"),
        *norm("vocab_layer_norm", "prediction_head/norm"),
        same("vocab_projector.bias", "logits_bias"),
    )


FAMILY = Family(
    name="distilbert",
    model_type="distilbert",
    class_name="DistilBertForMaskedLM",
    read=read,
    write=write,
    rules=rules,
    objective={"class": "MaskedLM", "rate": 0.15},
    copies={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    ignored=(r"^distilbert\.embeddings\.position_ids$",),
)

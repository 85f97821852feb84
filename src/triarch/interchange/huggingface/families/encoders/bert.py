"""BERT: `BertForMaskedLM` (arXiv 1810.04805); `BertForPreTraining` less its pooler and next-sentence head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ORIGINAL_TRANSFORMER, ConfigFields, activation_name
from triarch.interchange.huggingface.table import TensorRule, linear, norm, same
from triarch.models import ModelConfig


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    fields.only("is_decoder", False)
    fields.only("add_cross_attention", False)
    fields.only("position_embedding_type", "absolute")
    # Untied, the class has two biases on the logits, one of them unused.
    fields.only("tie_word_embeddings", True)
    d_model, num_heads = fields.count("hidden_size", 768), fields.count("num_attention_heads", 12)
    return ModelConfig(
        **ORIGINAL_TRANSFORMER,
        vocab_size=fields.count("vocab_size", 30522),
        d_model=d_model,
        d_ff=fields.count("intermediate_size", 3072),
        num_heads=num_heads,
        head_dim=d_model // num_heads,
        num_encoder_layers=fields.count("num_hidden_layers", 12),
        activation=fields.activation("hidden_act", "gelu"),
        norm_eps=fields.number("layer_norm_eps", 1e-12),
        learned_positions=fields.count("max_position_embeddings", 512),
        token_types=fields.count("type_vocab_size", 2),
        prediction_head=True,
        prediction_head_bias=True,
        logits_bias=True,
        pad_id=fields.pad_id(0),
    )


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_encoder_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.d_ff,
        "hidden_act": activation_name(config.activation, tanh="gelu_new"),
        "max_position_embeddings": config.learned_positions or 1,
        # The class always adds a type.
        "type_vocab_size": max(1, config.token_types),
        "layer_norm_eps": config.norm_eps,
        "pad_token_id": config.pad_id,
        "tie_word_embeddings": True,
    }


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    return (
        *body("bert"),
        *linear("cls.predictions.transform.dense", "prediction_head/dense"),
        *norm("cls.predictions.transform.LayerNorm", "prediction_head/norm"),
        same("cls.predictions.bias", "logits_bias"),
    )


def body(name: str) -> tuple[TensorRule, ...]:
    """Returns the table of embeddings and layers, whose tensors' names begin with that of the body."""
    layer, ours = f"{name}.encoder.layer.{{layer}}", "encoder/{layer}"
    return (
        same(f"{name}.embeddings.word_embeddings.weight", "embedding/table"),
        same(f"{name}.embeddings.position_embeddings.weight", "encoder_input/positions"),
        same(f"{name}.embeddings.token_type_embeddings.weight", "encoder_input/types"),
        *norm(f"{name}.embeddings.LayerNorm", "encoder_input/norm"),
        *linear(f"{layer}.attention.self.query", f"{ours}/attention/query"),
        *linear(f"{layer}.attention.self.key", f"{ours}/attention/key"),
        *linear(f"{layer}.attention.self.value", f"{ours}/attention/value"),
        *linear(f"{layer}.attention.output.dense", f"{ours}/attention/output"),
        *norm(f"{layer}.attention.output.LayerNorm", f"{ours}/attention_norm"),
        *linear(f"{layer}.intermediate.dense", f"{ours}/mlp/up"),
        *linear(f"{layer}.output.dense", f"{ours}/mlp/down"),
        *norm(f"{layer}.output.LayerNorm", f"{ours}/mlp_norm"),
    )


FAMILY = Family(
    name="bert",
    model_type="bert",
    class_name="BertForMaskedLM",
    read=read,
    write=write,
    rules=rules,
    objective={"class": "MaskedLM", "rate": 0.15},
    also=("BertForPreTraining",),
    renamed=((".LayerNorm.gamma", ".LayerNorm.weight"), (".LayerNorm.beta", ".LayerNorm.bias")),
    copies={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=(r"^bert\.pooler\.", r"^cls\.seq_relationship\.", r"^bert\.embeddings\.position_ids$"),
)

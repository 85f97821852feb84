"""ModernBERT and Ettin: `ModernBertForMaskedLM`, `ModernBertDecoderForCausalLM` (arXiv 2412.13663, 2507.11412).

A local layer of the encoder sees `local_attention // 2` tokens on each side; one of the decoder sees a window of
`local_attention // 2` tokens that ends with the query itself, hence one token less to its left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from triarch.interchange.huggingface.family import Family, special_ids
from triarch.interchange.huggingface.fields import ConfigFields, activation_name, layer_types, rope_parameters
from triarch.interchange.huggingface.table import TensorRule, linear, norm, same, transposed
from triarch.models import ModelConfig


def read_encoder(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a ModernBERT's config.json describes."""
    config = _read(fields, fields.count("local_attention", 128) // 2)
    return dataclasses.replace(config, num_encoder_layers=config.num_decoder_layers, num_decoder_layers=0)


def read_decoder(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a ModernBERT decoder's config.json describes."""
    window = fields.get("sliding_window", None)
    window = fields.count("local_attention", 128) // 2 if window is None else window
    if window < 1:
        raise fields.no_equivalent("local_attention", fields.get("local_attention", None))
    return _read(fields, window - 1)


def _read(fields: ConfigFields, reach: int) -> ModelConfig:
    d_model, num_heads = fields.count("hidden_size", 768), fields.count("num_attention_heads", 12)
    num_layers = fields.count("num_hidden_layers", 22)
    every = fields.get("global_attn_every_n_layers", None) or 3
    global_layers = fields.global_layers(num_layers, layer_types(num_layers, every, 0))
    global_base, global_scaling = fields.rope(fields.get("global_rope_theta", 160_000.0), "full_attention")
    local_base, local_scaling = fields.rope(fields.get("local_rope_theta", None) or 10_000.0, "sliding_attention")
    scaling = global_scaling or local_scaling
    if scaling is not None:
        raise fields.no_equivalent("rope_parameters", scaling.kind)
    activation = fields.activation("hidden_activation", "gelu")
    if fields.activation("classifier_activation", "gelu") != activation:
        raise fields.no_equivalent("classifier_activation", fields.get("classifier_activation", "gelu"))
    return ModelConfig(
        vocab_size=fields.count("vocab_size", 50368),
        d_model=d_model,
        d_ff=fields.count("intermediate_size", 1152),
        num_heads=num_heads,
        head_dim=d_model // num_heads,
        num_decoder_layers=num_layers,
        activation=activation,
        mlp_bias=fields.flag("mlp_bias", False),
        norm="layernorm",
        norm_bias=fields.flag("norm_bias", False),
        norm_eps=fields.number("norm_eps", 1e-5),
        first_attention_norm=False,
        attention_bias=fields.flag("attention_bias", False),
        sliding_window=reach if global_layers else None,
        global_every=global_layers[0] if global_layers else 1,
        first_global=global_layers[1] if global_layers else 0,
        rope_base=global_base,
        local_rope_base=local_base if global_layers else None,
        embedding_norm=True,
        tied_embeddings=fields.flag("tie_word_embeddings", True),
        logits_bias=fields.flag("decoder_bias", True),
        prediction_head=True,
        prediction_head_bias=fields.flag("classifier_bias", False),
        pad_id=fields.pad_id(50283),
    )


def write_encoder(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of an encoder."""
    reach = config.sliding_window
    window = {} if reach is None else {"local_attention": 2 * reach}
    return _write(config, config.num_encoder_layers) | window


def write_decoder(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a decoder."""
    reach = config.sliding_window
    window = {} if reach is None else {"local_attention": 2 * (reach + 1), "sliding_window": reach + 1}
    return _write(config, config.num_decoder_layers) | window


def _write(config: ModelConfig, num_layers: int) -> dict[str, Any]:
    every, first = (config.global_every, config.first_global) if config.sliding_window is not None else (1, 0)
    local_base = config.local_rope_base or config.rope_base
    activation = activation_name(config.activation)
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": num_layers,
        "num_attention_heads": config.num_heads,
        "hidden_activation": activation,
        "classifier_activation": activation,
        "norm_eps": config.norm_eps,
        "norm_bias": config.norm_bias,
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "classifier_bias": config.prediction_head_bias,
        "decoder_bias": config.logits_bias,
        "layer_types": layer_types(num_layers, every, first),
        "rope_parameters": {
            "full_attention": rope_parameters(config.rope_base, None),
            "sliding_attention": rope_parameters(local_base, None),
        },
        # What transformers 4 reads in place of the two above.
        "global_attn_every_n_layers": every,
        "global_rope_theta": config.rope_base,
        "local_rope_theta": local_base,
        "pad_token_id": config.pad_id,
        "tie_word_embeddings": config.tied_embeddings,
    }


def special(roles: Mapping[str, int]) -> dict[str, Any]:
    """Returns special ids by role; [CLS] and [SEP] are bos and eos."""
    named = {"cls": roles.get("bos"), "sep": roles.get("eos")}
    return special_ids({**roles, **{role: index for role, index in named.items() if index is not None}})


def rules_encoder(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns an encoder's table of tensors."""
    attention, ours = "model.layers.{layer}.attn", "encoder/{layer}/attention"
    joined = linear(f"{attention}.Wqkv", f"{ours}/query", f"{ours}/key", f"{ours}/value")
    return _rules("encoder", "head", joined)


def rules_decoder(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns a decoder's table of tensors."""
    attention, ours = "model.layers.{layer}.attn", "decoder/{layer}/attention"
    parts = zip(("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), strict=True)
    separate = (rule for theirs, name in parts for rule in linear(f"{attention}.{theirs}", f"{ours}/{name}"))
    return _rules("decoder", "lm_head", tuple(separate))


def _rules(side: str, head: str, attention: tuple[TensorRule, ...]) -> Sequence[TensorRule]:
    layer, ours = "model.layers.{layer}", f"{side}/{{layer}}"
    return (
        same("model.embeddings.tok_embeddings.weight", "embedding/table"),
        *norm("model.embeddings.norm", f"{side}_input/norm"),
        *norm(f"{layer}.attn_norm", f"{ours}/attention_norm"),
        *attention,
        *linear(f"{layer}.attn.Wo", f"{ours}/attention/output"),
        *norm(f"{layer}.mlp_norm", f"{ours}/mlp_norm"),
        *linear(f"{layer}.mlp.Wi", f"{ours}/mlp/gate", f"{ours}/mlp/up"),
        *linear(f"{layer}.mlp.Wo", f"{ours}/mlp/down"),
        *norm("model.final_norm", f"{side}/final_norm"),
        transposed(f"{head}.dense.weight", "prediction_head/dense"),
        same(f"{head}.dense.bias", "prediction_head/dense_bias"),
        *norm(f"{head}.norm", "prediction_head/norm"),
        same("decoder.weight", "embedding/output"),
        same("decoder.bias", "logits_bias"),
    )


ENCODER = Family(
    name="modernbert",
    model_type="modernbert",
    class_name="ModernBertForMaskedLM",
    read=read_encoder,
    write=write_encoder,
    rules=rules_encoder,
    objective={"class": "MaskedLM", "rate": 0.3},
    special=special,
    copies={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
)
DECODER = Family(
    name="modernbert-decoder",
    model_type="modernbert-decoder",
    class_name="ModernBertDecoderForCausalLM",
    read=read_decoder,
    write=write_decoder,
    rules=rules_decoder,
    objective={"class": "CausalLM"},
    special=special,
    copies={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
)

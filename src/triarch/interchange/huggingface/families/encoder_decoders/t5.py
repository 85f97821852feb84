"""T5 1.0 and 1.1: `T5ForConditionalGeneration` (arXiv 1910.10683, 2002.05202); UMT5 (arXiv 2304.09151).

1.0 multiplies states by 1/sqrt(d_model) before a tied output matrix, 1.1 has an output matrix of its own. In
config.json `tie_word_embeddings` stands for the factor; whether the matrix is tied, transformers 5 sees from the
tensors, and so does this. UMT5 is a T5 whose layers each have relative biases of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ACTIVATIONS, ConfigFields
from triarch.interchange.huggingface.table import TensorRule, norm, same, transposed
from triarch.models import ModelConfig

_IGNORED = (r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$",)
_INPUT, _OUTPUT = "shared.weight", "lm_head.weight"


@dataclasses.dataclass(frozen=True)
class _Defaults:
    """Of a class's config.json, where the classes differ."""

    vocab_size: int = 32128
    d_ff: int = 2048
    num_layers: int = 6
    num_heads: int = 8
    feed_forward_proj: str = "relu"
    relative_bias_per_layer: bool = False


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json of T5's describes."""
    return _read(fields, _Defaults())


def read_umt5(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json of UMT5's describes."""
    return _read(fields, _Defaults(250112, 1024, 8, 6, "gated-gelu", relative_bias_per_layer=True))


def _read(fields: ConfigFields, defaults: _Defaults) -> ModelConfig:
    gated, activation = _feed_forward(fields, defaults.feed_forward_proj)
    num_layers = fields.count("num_layers", defaults.num_layers)
    scaled = fields.flag("scale_decoder_outputs", fields.get("tie_word_embeddings", None) is not False)
    tied = not fields.tensors.has_own(_OUTPUT, _INPUT)
    return ModelConfig(
        vocab_size=fields.count("vocab_size", defaults.vocab_size),
        d_model=fields.count("d_model", 512),
        d_ff=fields.count("d_ff", defaults.d_ff),
        num_heads=fields.count("num_heads", defaults.num_heads),
        head_dim=fields.count("d_kv", 64),
        num_encoder_layers=num_layers,
        num_decoder_layers=fields.get("num_decoder_layers", None) or num_layers,
        activation=activation,
        gated_mlp=gated,
        norm_eps=fields.number("layer_norm_epsilon", 1e-6),
        attention_scale=1.0,
        position_encoding="relative_bias",
        relative_buckets=fields.count("relative_attention_num_buckets", 32),
        relative_max_distance=fields.count("relative_attention_max_distance", 128),
        relative_bias_per_layer=defaults.relative_bias_per_layer,
        decoder_positions="restart",
        tied_embeddings=tied,
        logits_scale="rsqrt_d_model" if scaled else 1.0,
        pad_id=fields.pad_id(0),
    )


def _feed_forward(fields: ConfigFields, default: str) -> tuple[bool, Any]:
    given = fields.get("feed_forward_proj", default)
    kind, _, name = str(given).rpartition("-")
    gated = kind == "gated"
    # The class means the approximated GELU by this one spelling.
    name = fields.get("dense_act_fn", "gelu_new" if given == "gated-gelu" else name)
    if kind not in ("", "gated") or name not in ACTIVATIONS or fields.flag("is_gated_act", gated) != gated:
        raise fields.no_equivalent("feed_forward_proj", given)
    return gated, ACTIVATIONS[name]


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    scaled = config.logits_scale != 1.0
    return {
        "vocab_size": config.vocab_size,
        "d_model": config.d_model,
        "d_kv": config.head_dim,
        "d_ff": config.d_ff,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "num_heads": config.num_heads,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_max_distance,
        "layer_norm_epsilon": config.norm_eps,
        "feed_forward_proj": _feed_forward_name(config),
        "pad_token_id": config.pad_id,
        "scale_decoder_outputs": scaled,
        "tie_word_embeddings": scaled,
    }


def _feed_forward_name(config: ModelConfig) -> str:
    if config.gated_mlp:
        return "gated-" + config.activation.removesuffix("_tanh")
    return "gelu_new" if config.activation == "gelu_tanh" else config.activation


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    return (
        same(_INPUT, "embedding/table"),
        *_stack(config, "encoder", 1),
        *_stack(config, "decoder", 2),
        same(_OUTPUT, "embedding/output"),
    )


def _stack(config: ModelConfig, side: str, feed_forward: int) -> list[TensorRule]:
    block, ours = f"{side}.block.{{layer}}.layer", f"{side}/{{layer}}"
    bias = "0.SelfAttention.relative_attention_bias.weight"
    found = [
        # A network has one or the other.
        same(f"{side}.block.0.layer.{bias}", f"{side}/relative_bias"),
        same(f"{block}.{bias}", f"{ours}/relative_bias"),
        *norm(f"{block}.0.layer_norm", f"{ours}/attention_norm"),
        *_attention(f"{block}.0.SelfAttention", f"{ours}/attention"),
    ]
    if side == "decoder":
        found += [
            *norm(f"{block}.1.layer_norm", f"{ours}/cross_norm"),
            *_attention(f"{block}.1.EncDecAttention", f"{ours}/cross_attention"),
        ]
    dense = f"{block}.{feed_forward}.DenseReluDense"
    branches = {"wi_0": "gate", "wi_1": "up"} if config.gated_mlp else {"wi": "up"}
    return [
        *found,
        *norm(f"{block}.{feed_forward}.layer_norm", f"{ours}/mlp_norm"),
        *(transposed(f"{dense}.{theirs}.weight", f"{ours}/mlp/{name}") for theirs, name in branches.items()),
        transposed(f"{dense}.wo.weight", f"{ours}/mlp/down"),
        *norm(f"{side}.final_layer_norm", f"{side}/final_norm"),
    ]


def _attention(theirs: str, ours: str) -> list[TensorRule]:
    names = {"q": "query", "k": "key", "v": "value", "o": "output"}
    return [transposed(f"{theirs}.{letter}.weight", f"{ours}/{name}") for letter, name in names.items()]


FAMILY = Family(
    name="t5",
    model_type="t5",
    class_name="T5ForConditionalGeneration",
    read=read,
    write=write,
    rules=rules,
    also=("T5WithLMHeadModel",),
    copies={"encoder.embed_tokens.weight": _INPUT, "decoder.embed_tokens.weight": _INPUT, _OUTPUT: _INPUT},
    labels_start=lambda fields: fields.get("decoder_start_token_id"),
    ignored=_IGNORED,
)
UMT5 = dataclasses.replace(
    FAMILY, name="umt5", model_type="umt5", class_name="UMT5ForConditionalGeneration", read=read_umt5, also=()
)

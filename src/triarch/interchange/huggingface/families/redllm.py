"""RedLLM and DecLLM (arXiv 2510.26622) and their variants, with a modelling file of triarch's own beside the weights.

No class of transformers expresses them. The folder holds one, with its layers and configuration (`modelling/`), which
`auto_map` names, so that `AutoModelForSeq2SeqLM` and `AutoModelForCausalLM` load it with `trust_remote_code=True`.
config.json holds every field of `triarch.models.ModelConfig` under `model`; of these, the modelling files take what is
no part of `_ONLY`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triarch.errors import UserError
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields
from triarch.interchange.huggingface.table import LAYER, TensorRule, linear, norm, same
from triarch.interchange.manifest import model_config
from triarch.models import ModelConfig
from triarch.models.choices import to_plain
from triarch.models.shape import Architecture

CODE_FILES = ("configuration_triarch.py", "layers_triarch.py", "modeling_triarch.py")
# Values that the modelling file is written for, of fields that it does not read.
_ONLY: dict[str, tuple[Any, ...]] = {
    "mixer": (None,),
    "feed_forward": (None,),
    "position_encoding": ("rotary", "none"),
    "token_types": (0,),
    "prediction_head": (False,),
}
_SCALINGS = ("linear", "llama3")
_NORMS = ("attention_norm", "post_attention_norm", "cross_norm", "post_cross_norm", "mlp_norm", "post_mlp_norm")


def _read(architecture: Architecture, fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    inner = fields.inner("model")
    config = model_config(inner.values, fields.where)
    if config.architecture != architecture:
        raise UserError(
            f"{fields.where}: architecture = {config.architecture!r}: {fields.class_name} is {architecture}"
        )
    found = not_held(config)
    if found:
        raise UserError("; ".join(found))
    return config


def not_held(config: ModelConfig) -> list[str]:
    """Returns each option of a network that the modelling file does not have, as "option = value (there value)"."""
    values = {name: getattr(config, name) for name in _ONLY}
    found = [
        f"{name} = {value!r} (there {_ONLY[name][0]!r})" for name, value in values.items() if value not in _ONLY[name]
    ]
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind not in _SCALINGS:
        found.append(f"rope_scaling.kind = {scaling.kind!r} (there {' or '.join(map(repr, _SCALINGS))})")
    return found


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors: our names, as torch's modules have them."""
    found: list[TensorRule] = [
        same("embedding.weight", "embedding/table"),
        same("encoder_embedding.weight", "embedding/encoder_table"),
        same("lm_head.weight", "embedding/output"),
        same("logits_bias", "logits_bias"),
    ]
    for side in ("encoder", "decoder"):
        ours, theirs = f"{side}/{LAYER}", f"{side}.layers.{LAYER}"
        found += norm(f"{side}.embedding_norm", f"{side}_input/norm")
        found += norm(f"{side}.final_norm", f"{side}/final_norm")
        for attention in ("attention", "cross_attention"):
            for name in ("query", "key", "value", "output"):
                found += linear(f"{theirs}.{attention}.{name}", f"{ours}/{attention}/{name}")
            for name in ("query_norm", "key_norm"):
                found += norm(f"{theirs}.{attention}.{name}", f"{ours}/{attention}/{name}")
        for name in ("gate", "up", "down"):
            found += linear(f"{theirs}.mlp.{name}", f"{ours}/mlp/{name}")
        for name in _NORMS:
            found += norm(f"{theirs}.{name}", f"{ours}/{name}")
    return found


def _family(name: str, architecture: Architecture, class_name: str, auto_class: str, config_class: str) -> Family:
    auto_map = {"AutoConfig": f"configuration_triarch.{config_class}", auto_class: f"modeling_triarch.{class_name}"}

    def write(config: ModelConfig) -> dict[str, Any]:
        is_pair = architecture == "encoder-decoder"
        tied = config.tied_embeddings
        own = {"auto_map": auto_map, "is_encoder_decoder": is_pair, "tie_word_embeddings": tied}
        return {"model": to_plain(config.in_numbers()), **own}

    return Family(
        name=name,
        model_type=f"triarch_{name}",
        class_name=class_name,
        read=lambda fields: _read(architecture, fields),
        write=write,
        rules=rules,
        labels_start=lambda fields: fields.get("decoder_start_token_id"),
        code=CODE_FILES,
        auto_class=auto_class,
    )


REDLLM = _family("redllm", "encoder-decoder", "RedLLMForConditionalGeneration", "AutoModelForSeq2SeqLM", "RedLLMConfig")
DECLLM = _family("decllm", "decoder-only", "DecLLMForCausalLM", "AutoModelForCausalLM", "DecLLMConfig")

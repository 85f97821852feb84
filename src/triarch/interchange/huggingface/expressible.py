"""Whether a Hugging Face class can express a config: written as config.json and read again, it must be the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from triarch.errors import UserError
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields, TensorFacts
from triarch.interchange.huggingface.table import LAYER
from triarch.models import ModelConfig
from triarch.models.attention.attention_parts import SelfAttention
from triarch.models.layers.experts import Experts
from triarch.models.layers.parts import FeedForwardPart, MixerPart
from triarch.models.network import specs
from triarch.models.recurrent.mamba2 import Mamba2
from triarch.models.shape import SIDE_SIZES

# How parameters begin says nothing about the network they have become.
_INITIAL = ("kernel_init", "init_std", "embedding_init_std")


def differences(config: ModelConfig, family: Family, fields: Mapping[str, Any] | None = None) -> list[str]:
    """Returns each option of `config` that the class does not have, as "option = value (the class: value)".

    Args:
      config: the network.
      family: the class.
      fields: the config.json to say it in; None for what the class needs alone.
    """
    written = json.loads(json.dumps(family.write(config) if fields is None else fields))
    facts = TensorFacts(frozenset(_tensor_names(config, family)))
    try:
        back = family.read(ConfigFields(written, "config.json", family.class_name, facts))
        back.validate()
    except UserError as error:
        return [str(error).removeprefix("config.json: ")]
    ours, theirs = _effective(config), _effective(back)
    shared = [name for name in ours if name in theirs and ours[name] != theirs[name]]
    if len(shared) > 1 and not {"num_encoder_layers", "num_decoder_layers", "position_encoding"}.isdisjoint(shared):
        # These follow from those.
        shared = [name for name in shared if name not in ("windows", "rotary_bases")]
    return [f"{name} = {ours[name]!r} (there {theirs[name]!r})" for name in shared]


def _tensor_names(config: ModelConfig, family: Family) -> Iterator[str]:
    """Yields the names of tensors that there is one of, not one a layer."""
    # They do not depend on sizes, and making a small network's parameters out takes less time.
    small: dict[str, Any] = {
        "vocab_size": config.pad_id + 1,
        "d_model": 2,
        "d_ff": 2,
        "num_heads": 1,
        "num_kv_heads": 1,
        "head_dim": 2,
        **dict.fromkeys((f"decoder_{name}" for name in SIDE_SIZES), None),
    }
    layers: dict[str, Any] = {f"num_{side}_layers": min(1, config.num_layers(side)) for side in ("encoder", "decoder")}
    shapes = specs(dataclasses.replace(config, **small, **layers))
    for rule in family.rules(config):
        if LAYER not in rule.theirs and all(name in shapes for name in rule.ours):
            yield rule.theirs


def _effective(config: ModelConfig) -> dict[str, Any]:
    """Returns every option that has an effect on what the network computes, in one spelling."""
    residual = {side: config.residual_factor(side) for side in ("encoder", "decoder") if config.num_layers(side)}
    config = config.in_numbers()
    values = dataclasses.asdict(config) | {"residual_factor": residual}
    for name in _INITIAL:
        del values[name]
    mixers = {side: [spec.mixer for spec in config.layer_specs(side)] for side in ("encoder", "decoder")}
    decoder = config.of_side("decoder")
    values |= {f"decoder_{name}": getattr(decoder, name) for name in SIDE_SIZES}
    values |= {
        "num_kv_heads": config.kv_heads,
        "decoder_num_kv_heads": decoder.kv_heads,
        **_scales(config),
        "logits_scale": _number(decoder.logits_factor),
        "mixer": _resolved(config),
        "feed_forward": _without_losses(config.feed_forward),
        "windows": {side: [getattr(mixer, "window", None) for mixer in found] for side, found in mixers.items()},
        "rotary_bases": {side: [mixer.rope and mixer.rope.base for mixer in found] for side, found in mixers.items()},
    }
    if decoder is not config:
        values |= {f"decoder_{name}": value for name, value in _scales(decoder).items()}
    # Said by windows and rotary_bases.
    for name in ("sliding_window", "decoder_sliding_window", "global_every", "first_global"):
        del values[name]
    del values["rope_base"], values["local_rope_base"]
    if config.architecture != "encoder-decoder":
        del values["decoder_positions"], values["cross_attention_rope"]
    elif config.position_encoding != "rotary":
        del values["cross_attention_rope"]
    if config.architecture == "decoder-only":
        del values["pad_id"]
    if config.architecture == "decoder-only" and not any(isinstance(one, SelfAttention) for one in mixers["decoder"]):
        # Mamba-2 has heads of its own; of RWKV's only the channels matter that they have together.
        for name in ("num_heads", "num_kv_heads", "decoder_num_heads", "decoder_num_kv_heads", "decoder_head_dim"):
            del values[name]
        values |= {"head_dim": 0 if isinstance(config.mixer, Mamba2) else config.heads_width, "attention_scale": 1.0}
    if config.position_encoding != "relative_bias":
        del values["relative_buckets"], values["relative_max_distance"]
    return values


def _resolved(config: ModelConfig) -> MixerPart | None:
    """Returns the mixer with the sizes that it takes from the config."""
    mixer = config.mixer
    if not isinstance(mixer, Mamba2):
        return mixer
    heads = mixer.heads(config)
    return dataclasses.replace(mixer, num_heads=heads, head_dim=mixer.width(config) // heads)


def _scales(config: ModelConfig) -> dict[str, float]:
    """Returns the factors that a side of these sizes has, as numbers."""
    return {
        "attention_scale": _number(config.attention_factor),
        "embedding_scale": _number(config.embedding_factor),
    }


def _without_losses(part: FeedForwardPart | None) -> FeedForwardPart | None:
    """Returns experts as they compute: what training adds to its loss says nothing about the network."""
    return dataclasses.replace(part, balance_loss=0.0, router_z_loss=0.0) if isinstance(part, Experts) else part


def _number(value: float) -> float:
    """Returns a factor rounded so far that ways to compute it do not matter."""
    return float(f"{value:.12g}")

"""Switch Transformer: `SwitchTransformersForConditionalGeneration` (arXiv 2101.03961), a T5 with experts.

Every layer of both sides, or every second one, sends each token to one of its experts, which takes a limited number
of each row. The class adds noise to what the router reads in training; this does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.families.encoder_decoders import t5
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields
from triarch.interchange.huggingface.table import TensorRule, transposed
from triarch.models import ModelConfig
from triarch.models.layers.experts import Experts

_LAYERS, _SPARSE = 12, 3
_ROUTER = "router.classifier.weight"


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    fields.only("router_bias", False)
    fields.only("router_ignore_padding_tokens", False)
    experts = Experts(
        num_experts=fields.count("num_experts", 8),
        per_token=1,
        renormalised=False,
        capacity=fields.count("expert_capacity", 64),
        balance_loss=fields.number("router_aux_loss_coef", 0.001),
        router_z_loss=fields.number("router_z_loss_coef", 0.001),
    )
    every = _every(fields, "encoder", fields.count("num_layers", _LAYERS))
    if _every(fields, "decoder", fields.get("num_decoder_layers", None) or _LAYERS) != every:
        raise fields.no_equivalent("num_sparse_decoder_layers", fields.get("num_sparse_decoder_layers", _SPARSE))
    scaled = fields.flag("tie_word_embeddings", True)
    renamed = {"feed_forward_proj": fields.get("dense_act_fn", "relu"), "dense_act_fn": None}
    defaults = {"num_layers": _LAYERS, "num_heads": 12, "d_model": 768, "num_decoder_layers": _LAYERS}
    config = t5.read(fields.with_defaults(renamed | defaults | {"scale_decoder_outputs": scaled}))
    return dataclasses.replace(config, feed_forward=experts, feed_forward_every=every)


def _every(fields: ConfigFields, side: str, num_layers: int) -> int:
    """Returns how far sparse layers of a side are apart; the class puts the first into layer 1, or into all."""
    name = f"num_sparse_{side}_layers"
    sparse = fields.get(name, _SPARSE)
    every = num_layers // sparse if isinstance(sparse, int) and sparse > 0 else 0
    if every not in (1, 2):
        raise fields.no_equivalent(name, sparse)
    return every


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    fields = t5.write(config)
    kind = fields.pop("feed_forward_proj")
    del fields["scale_decoder_outputs"]
    fields["dense_act_fn"] = kind
    experts = config.feed_forward
    if not isinstance(experts, Experts):
        return fields
    return fields | {
        "num_experts": experts.num_experts,
        "expert_capacity": experts.capacity,
        "router_aux_loss_coef": experts.balance_loss,
        "router_z_loss_coef": experts.router_z_loss,
        "num_sparse_encoder_layers": config.num_encoder_layers // config.feed_forward_every,
        "num_sparse_decoder_layers": config.num_decoder_layers // config.feed_forward_every,
    }


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    found = [rule for rule in t5.rules(config) if "DenseReluDense" not in rule.theirs]
    for side, place in (("encoder", 1), ("decoder", 2)):
        theirs, ours = f"{side}.block.{{layer}}.layer.{place}.mlp", f"{side}/{{layer}}/mlp"
        found.append(transposed(f"{theirs}.{_ROUTER}", f"{ours}/router"))
        for name, parameter in (("wi", "up"), ("wo", "down")):
            found.append(transposed(f"{theirs}.{name}.weight", f"{ours}/{parameter}"))
            found.append(transposed(f"{theirs}.experts.expert_{{expert}}.{name}.weight", f"{ours}/{parameter}"))
    return found


FAMILY = Family(
    name="switch",
    model_type="switch_transformers",
    class_name="SwitchTransformersForConditionalGeneration",
    read=read,
    write=write,
    rules=rules,
    copies=dict(t5.FAMILY.copies),
    labels_start=t5.FAMILY.labels_start,
    ignored=t5.FAMILY.ignored,
)

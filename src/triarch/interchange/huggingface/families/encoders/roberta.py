"""RoBERTa: `RobertaForMaskedLM` (arXiv 1907.11692), a BERT whose token i has row i + pad_id + 1 of the position table.

Its head has the exact GELU whatever the layers have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from triarch.interchange.huggingface.families.encoders import bert
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields
from triarch.interchange.huggingface.table import TensorRule, linear, norm, same
from triarch.models import ModelConfig


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    fields.only("hidden_act", "gelu")
    pad_id = fields.pad_id(1)
    return dataclasses.replace(bert.read(fields), pad_id=pad_id, learned_position_offset=pad_id + 1)


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    return (
        *bert.body("roberta"),
        *linear("lm_head.dense", "prediction_head/dense"),
        *norm("lm_head.layer_norm", "prediction_head/norm"),
        same("lm_head.bias", "logits_bias"),
    )


FAMILY = Family(
    name="roberta",
    model_type="roberta",
    class_name="RobertaForMaskedLM",
    read=read,
    write=bert.write,
    rules=rules,
    objective={"class": "MaskedLM", "rate": 0.15},
    copies={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    ignored=(r"^roberta\.pooler\.", r"^roberta\.embeddings\.position_ids$"),
)

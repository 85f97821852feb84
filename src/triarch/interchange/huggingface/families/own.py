"""The layout for networks that no class expresses, neither transformers' nor ours: config.json and safetensors.

config.json holds `model_type` "triarch" and, under `model`, every field of `triarch.models.ModelConfig`. Tensors bear
our names with "." between the parts and every layer by itself: `decoder.layers.3.attention.query`. Matrices map inputs
(rows) to outputs (columns), heads lie side by side along the columns of query, key and value and the rows of output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields
from triarch.interchange.huggingface.table import LAYER, TensorRule, same
from triarch.interchange.manifest import model_config
from triarch.models import ModelConfig
from triarch.models.choices import to_plain
from triarch.models.network import layer_place, specs
from triarch.models.shape import Side

LAYOUT = """\
No class of transformers expresses this network, so the files describe it themselves:

- `config.json`: under `model`, every field of `triarch.models.ModelConfig`, whose documentation says what each means.
- `model.safetensors` (or several files and `model.safetensors.index.json`): the parameters. Every layer is by itself:
  `decoder.layers.3.attention.query`. Matrices map inputs (rows) to outputs (columns): y = x W. Heads lie side by side
  along the columns of query, key and value, and along the rows of output. Of a gated feed-forward layer, `gate` is the
  branch that passes the activation: (act(x gate) * (x up)) down. `embedding.table` also maps states to logits, unless
  there is an `embedding.output`.
- `*_token_id` in `config.json` and `generation_config.json`: the special ids of the vocabulary; a decoder behind an
  encoder reads `decoder_start_token_id` before its first target, one without reads `bos_token_id`.
- whatever else there is belongs to the tokenizer."""


def read(fields: ConfigFields) -> ModelConfig:
    """Returns the network that a config.json describes."""
    return model_config(fields.inner("model").values, fields.where)


def write(config: ModelConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    return {"architecture": config.architecture, "model": to_plain(config)}


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of tensors."""
    sides: dict[str, Side] = {
        layer_place(config, side, layer)[0]: side
        for side in ("encoder", "decoder")
        for layer in range(config.num_layers(side))
    }
    found: dict[str, TensorRule] = {}
    for name in specs(config):
        module, rest = "/".join(name.split("/")[:3]), name.split("/")[3:]
        if module in sides:
            side = sides[module]
            theirs, ours = ".".join([side, "layers", LAYER, *rest]), "/".join([side, LAYER, *rest])
        else:
            theirs, ours = name.replace("/", "."), name
        found[theirs] = same(theirs, ours)
    return tuple(found.values())


FAMILY = Family(
    name="triarch",
    model_type="triarch",
    class_name="triarch's own layout",
    read=read,
    write=write,
    rules=rules,
    labels_start=lambda fields: fields.get("decoder_start_token_id"),
)

"""The network of a T5X checkpoint: a T5 of Hugging Face's, read from the shapes of its parameters.

Where layers have relative biases of their own, as scanned ones do, it is a UMT5.

Shapes say all but which activation the feed-forward has, which stands in gin alone: without it, relu where there is one
matrix (T5 1.0) and the approximated GELU where there are two (T5 1.1; flax's `gelu` is the approximated one). In both
layouts biases of near and far distances are as T5's (128 tokens), the scale of attention is 1, norms have an epsilon of
1e-6, decoding begins with the padding's id 0 and ends with 1. Tied logits are divided by sqrt(d_model), others not.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from triarch.errors import UserError
from triarch.interchange.huggingface.families.encoder_decoders import t5
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields, TensorFacts
from triarch.interchange.huggingface.table import LAYER, TensorRule, same, transposed
from triarch.interchange.t5x.layout import BIASES, SIDES, T5xTensors
from triarch.models import ModelConfig

EMBEDDING = "token_embedder/embedding"
LOGITS = "decoder/logits_dense/kernel"
_LAYER = re.compile(r"(encoder|decoder)/layers_([0-9]+)/")
# T5X's names of activations, and Hugging Face's: for one matrix, and for the first of two.
_ACTIVATIONS = {
    ("relu",): "relu",
    ("gelu",): "gelu_new",
    ("silu",): "silu",
    ("swish",): "silu",
    ("relu", "linear"): "gated-relu",
    ("gelu", "linear"): "gated-gelu",
    ("silu", "linear"): "gated-silu",
    ("swish", "linear"): "gated-silu",
}
_PROJECTIONS = {"query": "query", "key": "key", "value": "value", "out": "output"}
# Their attention and the norm before it, ours and its norm.
_ATTENTIONS = {
    "encoder": (("attention", "pre_attention_layer_norm", "attention", "attention_norm"),),
    "decoder": (
        ("self_attention", "pre_self_attention_layer_norm", "attention", "attention_norm"),
        ("encoder_decoder_attention", "pre_cross_attention_layer_norm", "cross_attention", "cross_norm"),
    ),
}
_DEFAULTS = {1: ("relu",), 2: ("gelu", "linear")}


@dataclasses.dataclass(frozen=True)
class Said:
    """What a gin file says of a network.

    Attributes:
      values: of fields of T5X's `T5Config`.
      where: the file.
    """

    values: Mapping[str, Any]
    where: str


def fields_of(tensors: T5xTensors, said: Said | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns a network as Hugging Face's config.json, and what was assumed of it, a line each.

    Args:
      tensors: by layer.
      said: the gin file's `T5Config`; None if there is none.

    Raises:
      UserError: a parameter that a T5 has is missing, shapes do not fit, or the gin file says otherwise.
    """
    vocab_size, d_model = _shape(tensors, EMBEDDING)
    biases = _biases(tensors)
    family = family_of(tensors)
    heads, buckets = _shape(tensors, biases)
    _, inner = _shape(tensors, "encoder/layers_0/attention/query/kernel")
    if not heads or inner % heads:
        name = "encoder/layers_0/attention/query/kernel"
        raise UserError(
            f"{tensors.entries[name].file}: {name!r} has {inner} columns, not a multiple of the {heads} heads of "
            f"{biases!r}"
        )
    gated = "encoder/layers_0/mlp/wi_0/kernel" in tensors.entries
    _, d_ff = _shape(tensors, f"encoder/layers_0/mlp/{'wi_0' if gated else 'wi'}/kernel")
    layers = _num_layers(tensors)
    tied = LOGITS not in tensors.entries
    found = {
        "vocab_size": vocab_size,
        "emb_dim": d_model,
        "num_heads": heads,
        "num_encoder_layers": layers["encoder"],
        "num_decoder_layers": layers["decoder"],
        "head_dim": inner // heads,
        "mlp_dim": d_ff,
        "logits_via_embedding": tied,
    }
    activations, notes = _activations(said, 2 if gated else 1)
    _check_said(said, found)
    fields = {
        "model_type": family.model_type,
        "architectures": [family.class_name],
        "vocab_size": vocab_size,
        "d_model": d_model,
        "d_kv": inner // heads,
        "d_ff": d_ff,
        "num_layers": layers["encoder"],
        "num_decoder_layers": layers["decoder"],
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": activations,
        "tie_word_embeddings": tied,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    return fields, notes


def family_of(tensors: T5xTensors) -> Family:
    """Returns Hugging Face's class of the network."""
    return t5.FAMILY if _biases(tensors) == f"encoder/{BIASES}" else t5.UMT5


def network_of(family: Family, fields: Mapping[str, Any], where: str) -> ModelConfig:
    """Returns the network that `fields_of` describes.

    Raises:
      UserError: it is none.
    """
    is_tied = fields["tie_word_embeddings"]
    names = {"shared.weight"} if is_tied else {"shared.weight", "lm_head.weight"}
    try:
        config = family.read(ConfigFields(fields, where, family.class_name, TensorFacts(frozenset(names))))
        config.validate()
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(where) else f"{where}: {text}") from None
    return config


def rules(config: ModelConfig) -> Sequence[TensorRule]:
    """Returns the table of T5X's parameters: which of ours each is."""
    return (same(EMBEDDING, "embedding/table"), transposed(LOGITS, "embedding/output"), *_both_sides(config))


def _both_sides(config: ModelConfig) -> Iterator[TensorRule]:
    branches = {"wi_0": "gate", "wi_1": "up"} if config.gated_mlp else {"wi": "up"}
    for side in SIDES:
        theirs, ours = f"{side}/layers_{LAYER}", f"{side}/{LAYER}"
        # A network has one or the other.
        yield transposed(f"{side}/{BIASES}", f"{side}/relative_bias")
        yield transposed(f"{theirs}/{BIASES}", f"{ours}/relative_bias")
        for name, norm, our_name, our_norm in _ATTENTIONS[side]:
            yield same(f"{theirs}/{norm}/scale", f"{ours}/{our_norm}/scale")
            for projection, our_projection in _PROJECTIONS.items():
                yield same(f"{theirs}/{name}/{projection}/kernel", f"{ours}/{our_name}/{our_projection}")
        yield same(f"{theirs}/pre_mlp_layer_norm/scale", f"{ours}/mlp_norm/scale")
        for branch, our_branch in branches.items():
            yield same(f"{theirs}/mlp/{branch}/kernel", f"{ours}/mlp/{our_branch}")
        yield same(f"{theirs}/mlp/wo/kernel", f"{ours}/mlp/down")
        yield same(f"{side}/{side}_norm/scale", f"{side}/final_norm/scale")


def _biases(tensors: T5xTensors) -> str:
    """Returns the name of the first table of relative biases; of the one that all layers share, if there is none."""
    own = f"encoder/layers_0/{BIASES}"
    return own if own in tensors.entries else f"encoder/{BIASES}"


def _shape(tensors: T5xTensors, name: str) -> tuple[int, int]:
    """Returns the sizes of a matrix that every T5 has."""
    if name not in tensors.entries:
        raise UserError(f"{tensors.source}: {name!r} is missing: only encoder-decoder T5 checkpoints of T5X are read")
    entry = tensors.entries[name]
    if len(entry.shape) != 2:
        raise UserError(f"{entry.file}: {name!r} has shape {list(entry.array.shape)}, expected a matrix")
    return entry.shape


def _num_layers(tensors: T5xTensors) -> dict[str, int]:
    layers: dict[str, set[str]] = {side: set() for side in SIDES}
    for name in tensors.entries:
        found = _LAYER.match(name)
        if found is not None:
            layers[found[1]].add(found[2])
    return {side: len(numbers) for side, numbers in layers.items()}


def _activations(said: Said | None, matrices: int) -> tuple[str, tuple[str, ...]]:
    """Returns Hugging Face's name of the feed-forward's activation, and what was assumed."""
    given = None if said is None else said.values.get("mlp_activations")
    if said is None or given is None:
        default = _DEFAULTS[matrices]
        where = "no gin file beside it says" if said is None else f"{said.where} does not say"
        note = f"mlp_activations = {default!r} is assumed, as T5 1.{matrices - 1} has it: {where}"
        return _ACTIVATIONS[default], (f"{note} (name one with --t5x_gin)",)
    names = tuple(given) if isinstance(given, list | tuple) else given
    if not (isinstance(names, tuple) and all(isinstance(name, str) for name in names) and names in _ACTIVATIONS):
        known = ", ".join(map(repr, _ACTIVATIONS))
        raise UserError(f"{said.where}: T5Config.mlp_activations = {given!r}: expected one of {known}")
    if len(names) != matrices:
        kind = "wi_0 and wi_1" if matrices == 2 else "wi alone"
        raise UserError(f"{said.where}: T5Config.mlp_activations = {given!r}, but the checkpoint has {kind}")
    return _ACTIVATIONS[names], ()


def _check_said(said: Said | None, found: Mapping[str, Any]) -> None:
    if said is None:
        return
    for name, value in found.items():
        given = said.values.get(name, value)
        if given != value:
            raise UserError(f"{said.where}: T5Config.{name} = {given!r}, but the checkpoint's shapes make it {value!r}")

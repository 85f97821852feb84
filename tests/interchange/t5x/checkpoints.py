"""T5X checkpoints written by hand, from tensors of a `T5ForConditionalGeneration`: what T5X itself would write."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
from flax import serialization

HEADS, HEAD, WIDTH, INNER, VOCAB, BUCKETS = 3, 6, 20, 28, 43, 8
KERNELS = {"q": "query", "k": "key", "v": "value", "o": "out"}
T5 = dict(
    vocab_size=VOCAB,
    d_model=WIDTH,
    d_kv=HEAD,
    d_ff=INNER,
    num_heads=HEADS,
    num_layers=2,
    num_decoder_layers=3,
    relative_attention_num_buckets=BUCKETS,
)


def minimal(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns T5X's parameters of the minimal layout, by names joined with "/", from the class's tensors."""
    # Of a T5 one layer of each side has biases, of a UMT5 each.
    own_biases = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight" in tensors
    found = {"token_embedder/embedding": tensors["shared.weight"]}
    if "lm_head.weight" in tensors:
        found["decoder/logits_dense/kernel"] = tensors["lm_head.weight"].T
    for name, value in tensors.items():
        side, kind, *rest = name.split(".")
        if side not in ("encoder", "decoder"):
            continue
        if kind == "final_layer_norm":
            found[f"{side}/{side}_norm/scale"] = value
        if kind != "block":
            continue
        block, _, sublayer, module, *leaf = rest
        layer = f"{side}/layers_{block}"
        if module == "layer_norm":
            found[f"{layer}/{norm_name(side, int(sublayer))}/scale"] = value
        elif module == "DenseReluDense":
            found[f"{layer}/mlp/{leaf[0]}/kernel"] = value.T
        elif leaf[0] == "relative_attention_bias":
            found[f"{layer if own_biases else side}/relpos_bias/rel_embedding"] = value.T
        else:
            attention = "attention" if side == "encoder" else "self_attention"
            attention = "encoder_decoder_attention" if module == "EncDecAttention" else attention
            found[f"{layer}/{attention}/{KERNELS[leaf[0]]}/kernel"] = value.T
    return {name: np.ascontiguousarray(value) for name, value in found.items()}


def random_minimal(layers: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns random parameters of a T5 1.0 in the minimal layout: `layers` in the encoder, one more in the decoder."""
    width, heads = (WIDTH, HEADS * HEAD), (HEADS * HEAD, WIDTH)
    shapes: dict[str, tuple[int, ...]] = {"token_embedder/embedding": (VOCAB, WIDTH)}
    for side, count in (("encoder", layers), ("decoder", layers + 1)):
        attentions = ("attention",) if side == "encoder" else ("self_attention", "encoder_decoder_attention")
        shapes |= {f"{side}/relpos_bias/rel_embedding": (HEADS, BUCKETS), f"{side}/{side}_norm/scale": (WIDTH,)}
        for layer in range(count):
            within = f"{side}/layers_{layer}"
            for attention in attentions:
                for kernel in KERNELS.values():
                    shapes[f"{within}/{attention}/{kernel}/kernel"] = heads if kernel == "out" else width
            shapes |= {f"{within}/{norm_name(side, number)}/scale": (WIDTH,) for number in range(len(attentions) + 1)}
            shapes |= {f"{within}/mlp/wi/kernel": (WIDTH, INNER), f"{within}/mlp/wo/kernel": (INNER, WIDTH)}
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def norm_name(side: str, sublayer: int) -> str:
    """Returns T5X's name of the norm before a block's sublayer."""
    if side == "encoder":
        return ("pre_attention_layer_norm", "pre_mlp_layer_norm")[sublayer]
    return ("pre_self_attention_layer_norm", "pre_cross_attention_layer_norm", "pre_mlp_layer_norm")[sublayer]


def apart(name: str, value: np.ndarray) -> np.ndarray:
    """Returns a kernel of attention with heads and head_dim as axes of their own."""
    if name.endswith(("/query/kernel", "/key/kernel", "/value/kernel")):
        return value.reshape(WIDTH, HEADS, HEAD)
    return value.reshape(HEADS, HEAD, WIDTH) if name.endswith("/out/kernel") else value


def scanned(parameters: Mapping[str, np.ndarray], axis: int = 1) -> dict[str, np.ndarray]:
    """Returns the scanned layout of parameters in the minimal one; layers share the side's relative biases."""
    layers: dict[str, list[np.ndarray]] = {}
    found = {}
    for name, value in parameters.items():
        side, second, *rest = name.split("/")
        if second.startswith("layers_"):
            stacked = layers.setdefault("/".join((side, side, *rest)), [])
            assert len(stacked) == int(second.removeprefix("layers_"))
            stacked.append(apart(name, value))
        elif second != "relpos_bias":
            found[name] = value
    for side in ("encoder", "decoder"):
        biases = "relpos_bias/rel_embedding"
        if f"{side}/{biases}" in parameters:
            count = len(layers[f"{side}/{side}/pre_mlp_layer_norm/scale"])
            layers[f"{side}/{side}/{biases}"] = [parameters[f"{side}/{biases}"]] * count
    return found | {name: np.stack(values, axis) for name, values in layers.items()}


@dataclasses.dataclass
class Checkpoint:
    """A checkpoint to write.

    Attributes:
      parameters: by names joined with "/".
      version: of the format.
      inline: names of parameters that stand in the index.
      driver: of the key-value store that the index names.
      state: of the optimizer.
    """

    parameters: dict[str, np.ndarray]
    version: int = 3
    inline: tuple[str, ...] = ()
    driver: str = "file"
    state: Any = dataclasses.field(
        default_factory=lambda: {"step": np.int32(1000), "param_states": {"decoder": {"v": np.ones(3, np.float32)}}}
    )

    def index(self) -> dict[str, Any]:
        """Returns what the index holds."""
        target: dict[str, Any] = {}
        for name, value in self.parameters.items():
            *modules, leaf = name.split("/")
            place = target
            for module in modules:
                place = place.setdefault(module, {})
            place[leaf] = value if name in self.inline else self.spec(name, value)
        return {"version": self.version, "optimizer": {"target": target, "state": self.state}}

    def spec(self, name: str, value: np.ndarray) -> dict[str, Any]:
        """Returns the JSON of a TensorStore spec, as T5X puts it into the index."""
        bucket = {"bucket": "t5x-dummy-bucket"} if self.driver == "gcs" else {}
        return {
            "driver": "zarr",
            "dtype": value.dtype.name,
            "kvstore": {"driver": self.driver, **bucket, "path": f"{folder_name(name)}/"},
            "metadata": {
                "chunks": chunks_of(value.shape),
                "compressor": {"id": "gzip", "level": 1},
                "shape": list(value.shape),
            },
        }

    def write(self, folder: Path) -> Path:
        """Writes the folder."""
        folder.mkdir(parents=True)
        for name, value in self.parameters.items():
            if name not in self.inline:
                write_array(folder / folder_name(name), value)
        write_index(folder, self.index())
        return folder


def write_index(folder: Path, index: Any) -> None:
    """Writes the file "checkpoint"."""
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(index))


def write_array(folder: Path, value: np.ndarray) -> None:
    """Writes a zarr array in two chunks along its last axis, where that is even."""
    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "metadata": {
            "compressor": {"id": "gzip"},
            "shape": list(value.shape),
            "chunks": chunks_of(value.shape),
            "dtype": "bfloat16" if value.dtype.name == "bfloat16" else value.dtype.str,
        },
    }
    tensorstore.open(spec, create=True, open=True).result().write(value).result()


def folder_name(name: str) -> str:
    """Returns the folder of a parameter."""
    return f"target.{name.replace('/', '.')}"


def chunks_of(shape: tuple[int, ...]) -> list[int]:
    """Returns the sizes of a chunk."""
    return [*shape[:-1], shape[-1] // 2 if shape[-1] % 2 == 0 else shape[-1]]

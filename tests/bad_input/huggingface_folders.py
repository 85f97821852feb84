"""Hugging Face folders that are damaged, incomplete, of another kind, or in use of what has no equivalent."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

from tests.bad_input.case import Case, bad_json, case, damaged, json_values

CONFIG = "hf/config.json"
TENSORS = "hf/model.safetensors"
INDEX = "hf/model.safetensors.index.json"
IMPORT = "import hf --output=e"
NORM = "model.norm.weight"
VALUES = (
    ("model_type", ("lama", "mistral7", None, 7, ["llama"], "")),
    ("architectures", (["LlamaForSequenceClassification"], "LlamaForCausalLM", [7], {"a": 1})),
    ("vocab_size", (0, -1, 7, "17", None, 10**15, 16.5)),
    ("hidden_size", (0, -8, 9, "8", None, 10**15)),
    ("intermediate_size", (0, 13, "12", None)),
    ("num_hidden_layers", (0, -1, 2, 4, "3", None, 100_000, 3.0, True)),
    ("num_attention_heads", (0, 3, "2", None, -2)),
    ("num_key_value_heads", (3, 0, "1", -1)),
    ("rms_norm_eps", (0, -1e-5, "1e-5", None, float("nan"))),
    ("rope_theta", (0, -1, "10000", float("inf"), float("nan"))),
    ("rope_scaling", ({"rope_type": "yarm", "factor": 2.0}, {"rope_type": "llama3"}, 7, {"type": 7})),
    ("hidden_act", ("silu2", None, 7)),
    ("head_dim", (7, 0, "4")),
    ("tie_word_embeddings", (True, "no", 7)),
    ("attention_bias", (True, "yes")),
    ("mlp_bias", (True,)),
    ("quantization_config", ({"bits": 4},)),
)
LACKING = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
COMMANDS = (
    ("import hff --output=e", "hff", "hf"),
    ("import nowhere --output=e", "nowhere", ""),
    ("import meta-llama/Llama-3.2-1B --output=e", "meta-llama", ""),
    ("import hf/config.json --output=e", "config.json", ""),
    ("import hf/model.safetensors --output=e", "model.safetensors", ""),
    ("import store --output=e", "store", "config.json"),
    ("import text.txt --output=e", "text.txt", ""),
    ("import hf --output=hf", "hf", ""),
    ("import hf --output=store --overwrite", "store", ""),
    ("import hf --output=text.txt", "text.txt", ""),
    ("import hf --output=text.txt/e", "text.txt", ""),
    ("import '' --output=e", "", ""),
)
HEADERS = {
    "a list": [],
    "no offsets": {NORM: {"dtype": "F32", "shape": [8]}},
    "no type": {NORM: {"shape": [8], "data_offsets": [0, 32]}},
    "an unknown type": {NORM: {"dtype": "F99", "shape": [8], "data_offsets": [0, 32]}},
    "a type of integers": {NORM: {"dtype": "I64", "shape": [4], "data_offsets": [0, 32]}},
    "a negative size": {NORM: {"dtype": "F32", "shape": [-8], "data_offsets": [0, 32]}},
    "a huge size": {NORM: {"dtype": "F32", "shape": [10**18], "data_offsets": [0, 32]}},
    "offsets beyond the end": {NORM: {"dtype": "F32", "shape": [8], "data_offsets": [10**9, 10**9 + 32]}},
    "offsets the wrong way": {NORM: {"dtype": "F32", "shape": [8], "data_offsets": [32, 0]}},
    "a shape that does not fit": {NORM: {"dtype": "F32", "shape": [9], "data_offsets": [0, 32]}},
    "no tensors": {},
    "one tensor": {NORM: {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}},
    "an entry that is none": {NORM: 7},
}
INDICES = {
    "no map": {"metadata": {}},
    "a map that is a list": {"weight_map": []},
    "an empty map": {"weight_map": {}},
    "a shard that is missing": {"weight_map": {NORM: "model-00001-of-00002.safetensors"}},
    "a shard elsewhere": {"weight_map": {NORM: "../model.safetensors"}},
    "a shard that is a number": {"weight_map": {NORM: 7}},
    "a list": [],
}


def safetensors(header: object, data: bytes = bytes(32)) -> bytes:
    """Returns a file with that header, fitting or not."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def cases() -> Iterator[Case]:
    """Yields the cases."""
    for command, *says in COMMANDS:
        yield case(f"hf: {command}", command, *says, takes="hf store text.txt")
    yield from json_values("hf config.json", CONFIG, IMPORT, "hf", takes="hf", values=VALUES)
    yield from json_values("hf config.json", CONFIG, IMPORT, "config.json", takes="hf", lacking=LACKING)
    yield from bad_json("hf config.json", CONFIG, IMPORT, "config.json", takes="hf")
    yield from damaged("hf config.json", CONFIG, IMPORT, "config.json", takes="hf")
    yield from damaged("hf safetensors", TENSORS, IMPORT, "model.safetensors", takes="hf")
    for name, header in HEADERS.items():
        files = {TENSORS: safetensors(header)}
        yield case(f"hf safetensors header: {name}", IMPORT, "hf", takes="hf", files=files)
    for name, content in {
        "a length beyond the file": struct.pack("<Q", 10**6) + b"{}",
        "a length of 2^63": struct.pack("<Q", 2**63) + b"{}",
        "a length of 0": struct.pack("<Q", 0),
        "7 bytes": bytes(7),
        "no JSON": struct.pack("<Q", 4) + b"{{{{",
    }.items():
        yield case(f"hf safetensors: {name}", IMPORT, "model.safetensors", takes="hf", files={TENSORS: content})
    for name, content in INDICES.items():
        make = lambda folder, content=content: (folder.remove(TENSORS), folder.write(INDEX, content))  # noqa: E731
        yield case(f"hf index: {name}", IMPORT, "hf", takes="hf", make=make)
    for name, others in {
        "no tensors": (),
        "a pickle of torch": ("pytorch_model.bin",),
        "GGUF": ("model-q4.gguf",),
        "TensorFlow": ("tf_model.h5",),
    }.items():

        def make(folder, others=others) -> None:
            folder.remove(TENSORS)
            for file in others:
                folder.write(f"hf/{file}", b"\x80\x02")

        yield case(f"hf folder: {name}", IMPORT, "hf", takes="hf", make=make)

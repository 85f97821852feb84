"""Adapters as peft has them: written from ours they compute what ours do, and read they are the same again."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.test_modelling import DEC, RED, exported
from triarch.errors import UserError
from triarch.interchange.export import read_export
from triarch.interchange.huggingface.peft import CONFIG, WEIGHTS, read_peft, write_peft
from triarch.interchange.huggingface.peft_importing import write_with_peft
from triarch.interchange.streamed import StoredModel, open_export
from triarch.models import LoRA
from triarch.models.network import flatten, specs, unflatten

torch = parity.torch
SIZES = dict(vocab_size=parity.VOCAB, hidden_size=16, num_hidden_layers=3, num_attention_heads=4)
MODELS = {
    "llama": lambda: parity.make(
        "LlamaForCausalLM", "LlamaConfig", **SIZES, intermediate_size=24, num_key_value_heads=2
    ),
    # Queries, keys and values in one matrix, which is stored the other way round.
    "gpt2": lambda: parity.make(
        "GPT2LMHeadModel", "GPT2Config", vocab_size=parity.VOCAB, n_embd=16, n_layer=2, n_head=4, n_positions=32
    ),
    # The same head by head.
    "gpt_neox": lambda: parity.make(
        "GPTNeoXForCausalLM", "GPTNeoXConfig", **SIZES | {"num_attention_heads": 2}, intermediate_size=24
    ),
    "bert": lambda: parity.make("BertForMaskedLM", "BertConfig", **SIZES, intermediate_size=24),
    "t5": lambda: parity.make(
        "T5ForConditionalGeneration", "T5Config",
        vocab_size=parity.VOCAB, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4, decoder_start_token_id=0,
    ),
}  # fmt: skip
# Of the classes that exports carry themselves.
OWN = {"redllm": RED, "decllm": DEC}
LORA = LoRA(rank=3, alpha=6.0, targets=("*/query", "*/value", "*/mlp"))


@dataclasses.dataclass(frozen=True)
class Adapters:
    base: StoredModel
    updates: dict
    rank: int = LORA.rank
    alpha: float = LORA.alpha
    dropout: float = 0.0


def adapters_of(base: StoredModel) -> Adapters:
    rng, known = np.random.default_rng(0), specs(base.config)
    updates = {}
    for name in LORA.adapted(known):
        *stack, inputs, outputs = known[name].shape
        shapes = (*stack, inputs, LORA.rank), (*stack, LORA.rank, outputs)
        updates[name] = tuple(rng.normal(0, 0.3, shape).astype(np.float32) for shape in shapes)
    return Adapters(base, updates)


def with_sums(loaded, adapters):
    params = flatten(loaded.params)
    for name, (down, up) in adapters.updates.items():
        params[name] = params[name] + np.float32(LORA.scale) * (down @ up)
    return dataclasses.replace(loaded, params=unflatten(params), _compiled={})


@pytest.fixture
def made(request, tmp_path):
    own = OWN.get(request.param)
    imported = parity.import_model(MODELS[request.param](), tmp_path) if own is None else exported(own, tmp_path)
    adapters = adapters_of(open_export(imported.export))
    write_peft(adapters, tmp_path / "adapter")
    return imported, adapters, tmp_path / "adapter"


@pytest.mark.parametrize("made", [*MODELS, *OWN], indirect=True)
def test_what_is_read_again_is_what_was_written(made, tmp_path):
    imported, adapters, folder = made
    write_with_peft(folder, open_export(imported.export), tmp_path / "sums")
    found = flatten(read_export(tmp_path / "sums").params)
    for name, value in flatten(with_sums(imported.loaded, adapters).params).items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("made", [*MODELS, *OWN], indirect=True)
def test_peft_loads_them_with_equal_logits(made):
    peft = pytest.importorskip("peft")
    imported, adapters, folder = made
    tokens = np.random.default_rng(1).integers(4, parity.VOCAB, (2, 9))
    sides = {"encoder-only": ("encoder",), "decoder-only": ("decoder",)}
    names = sides.get(imported.loaded.config.architecture, ("encoder", "decoder"))
    ours = with_sums(imported.loaded, adapters).logits({f"{side}_input_tokens": tokens for side in names})
    inputs = {"input_ids": torch.tensor(tokens)}
    if len(names) == 2:
        inputs["decoder_input_ids"] = inputs["input_ids"]
    before = imported.model(**inputs).logits.detach().numpy()
    with torch.no_grad():
        theirs = peft.PeftModel.from_pretrained(imported.model, folder)(**inputs).logits.numpy()
    assert np.abs(theirs - before).max() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.slow
@pytest.mark.parametrize("rslora", [False, True])
def test_what_peft_saves_is_read(tmp_path, rslora):
    peft = pytest.importorskip("peft")
    imported = parity.import_model(MODELS["llama"](), tmp_path)
    config = peft.LoraConfig(
        r=2, lora_alpha=6, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", use_rslora=rslora,
        init_lora_weights=False, alpha_pattern={"model.layers.1.mlp.down_proj": 3},
    )  # fmt: skip
    adapted = peft.get_peft_model(imported.model, config).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    write_with_peft(tmp_path / "adapter", open_export(imported.export), tmp_path / "sums")
    tokens = np.random.default_rng(1).integers(4, parity.VOCAB, (2, 9))
    with torch.no_grad():
        theirs = adapted(input_ids=torch.tensor(tokens)).logits.numpy()
    ours = read_export(tmp_path / "sums").logits({"decoder_input_tokens": tokens})
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def damage_config(**changes):
    def change(folder: Path) -> None:
        fields = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(fields | changes))

    return change


def damage_tensors(change, metadata=None):
    def rewrite(folder: Path) -> None:
        tensors = safetensors.numpy.load_file(folder / WEIGHTS)
        safetensors.numpy.save_file(change(tensors), folder / WEIGHTS, metadata)

    return rewrite


def renamed(tensors):
    return {name.replace("layers.2.", "layers.7."): value for name, value in tensors.items()}


def widened(tensors):
    return {n: np.pad(v, ((0, 0), (0, 2))) if n.endswith("q_proj.lora_A.weight") else v for n, v in tensors.items()}


@pytest.mark.parametrize("made", ["llama"], indirect=True)
def test_what_cannot_be_read_is_one_line(made):
    imported, _, folder = made
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    for damage, message in (
        (damage_config(peft_type="IA3"), "peft_type = 'IA3': expected 'LORA'"),
        (damage_config(use_dora=True), "use_dora = True has no equivalent here"),
        (damage_config(lora_alpha="six"), "lora_alpha = 'six': expected a number"),
        (damage_tensors(renamed), "has no place in the LlamaForCausalLM of .* that of another base"),
        (damage_tensors(widened), r"\[3, 18\] and \[16, 3\], the base makes them \[rank, 16\] and \[16, rank\]"),
        (damage_tensors(dict, {"triarch_base": "0" * 64}), "its adapters go with other parameters than those of"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"x"), "cut short, or not a safetensors file"),
        (lambda folder: (folder / WEIGHTS).unlink(), f"holds no {WEIGHTS}"),
        (lambda folder: (folder / CONFIG).unlink(), f"holds no adapter: there is no {CONFIG}"),
    ):
        for path, content in kept.items():
            path.write_bytes(content)
        damage(folder)
        with pytest.raises(UserError, match=message):
            read_peft(folder, open_export(imported.export))

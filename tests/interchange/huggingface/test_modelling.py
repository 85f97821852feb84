"""The PyTorch files that exports of RedLLM and DecLLM carry, against triarch: logits, gradients, text, and back."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

import triarch
from tests.interchange import exports
from tests.interchange.huggingface import parity
from tests.interchange.huggingface.parity import PAD, torch, transformers
from tests.models import tiny
from triarch.cli.main import main
from triarch.decoding import GenerationSettings, generate
from triarch.decoding.conventions import Conventions
from triarch.interchange.huggingface import choose_family, open_folder, write_huggingface, write_import
from triarch.interchange.huggingface.families import FAMILIES
from triarch.interchange.manifest import read_manifest
from triarch.interchange.streamed import open_export
from triarch.models import RopeScaling

BOS, EOS, NEW_TOKENS = 1, 2, 8
PROMPTS = ([7, 31, 9, 22], [11, 30, 12, 8, 19, 4, 22, 6, 13], [40])
RED = dataclasses.replace(tiny.REDLLM, vocab_size=parity.VOCAB)
DEC = dataclasses.replace(tiny.DECLLM, vocab_size=parity.VOCAB)
# Options that the two do not use, most of them together.
OTHERS = dict(
    norm="layernorm",
    norm_scale="gain",
    norm_bias=True,
    norm_eps=1e-5,
    num_kv_heads=1,
    gated_mlp=False,
    activation="gelu",
    mlp_bias=True,
    attention_bias=True,
    qkv_norm=False,
    qk_norm="per_head",
    sliding_window=3,
    global_every=2,
    local_rope_base=100.0,
    rope_fraction=0.5,
    embedding_norm=True,
    logits_bias=True,
    logits_scale=0.5,
    tied_embeddings=False,
)
GEMMA = dict(
    norm_scale="one_plus_gain",
    norm_position="pre_and_post",
    attention_softcap=5.0,
    logits_softcap=3.0,
    embedding_scale="sqrt_d_model",
    activation="gelu_tanh",
    attention_scale=0.3,
)
CASES = {
    "redllm": RED,
    "decllm": DEC,
    "redllm, others": dataclasses.replace(
        RED, **OTHERS, decoder_positions="restart", shared_embeddings=False, decoder_d_model=12, decoder_head_dim=4
    ),
    "redllm, gemma": dataclasses.replace(
        RED, **GEMMA, decoder_sliding_window=1, sliding_window=2, cross_attention_rope=False
    ),
    "redllm, projected norm": dataclasses.replace(RED, attention_output_norm="projected", norm_position="post"),
    "decllm, others": dataclasses.replace(DEC, **OTHERS, parallel_residual=True, first_attention_norm=False),
    "decllm, llama": dataclasses.replace(
        DEC,
        qkv_norm=False,
        qk_norm="all_heads",
        norm_position="output",
        norm_scale="gain",
        attention_output_norm="all_heads",
        rope_scaling=RopeScaling(8.0, 1.0, 4.0, 64),
    ),
    "decllm, no positions": dataclasses.replace(DEC, position_encoding="none", qkv_norm=False, final_norm=False),
}
SLOW = [name for name in CASES if "," in name]


def load(folder):
    auto = {"redllm": "AutoModelForSeq2SeqLM", "decllm": "AutoModelForCausalLM"}
    name = json.loads((folder / "config.json").read_text())["model_type"].removeprefix("triarch_")
    model, info = getattr(transformers, auto[name]).from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model


def exported(config, folder, origin=exports.ORIGIN) -> parity.Imported:
    """Returns a network as an export's modelling file and as triarch computes it."""
    export, output = exports.export(folder, config, origin), folder / "hf"
    stored = open_export(export)
    family = FAMILIES["redllm" if config.num_encoder_layers else "decllm"]
    write_huggingface(stored, output, choose_family(stored, family.name))
    loaded = triarch.load(export, execution=tiny.FLOAT32)
    return parity.Imported(load(output), output, open_folder(output), export, loaded)


def both(name, folder):
    """Returns a case, and the same tokens for either side of it."""
    found = exported(CASES[name], folder)
    target = parity.side(2, length=9)
    ours = {"decoder_input_tokens": target.tokens, "decoder_segment_ids": target.segments}
    if found.model.config.is_encoder_decoder:
        source = parity.side(1)
        theirs = {"input_ids": source.tokens, "decoder_input_ids": target.tokens}
        theirs |= {"decoder_attention_mask": target.real}
        ours["encoder_input_tokens"] = source.tokens
    else:
        theirs = {"input_ids": target.tokens, "attention_mask": target.real}
    return found, theirs, ours, target.real


@pytest.mark.parametrize("name", ["redllm", "decllm"])
def test_logits_are_the_same(name, tmp_path):
    parity.check_logits(*both(name, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_logits_and_gradients_are_the_same(name, tmp_path):
    parity.check(*both(name, tmp_path))


@parity.cases(CASES, *SLOW)
def test_what_is_read_back_is_the_same(name, tmp_path):
    found = exported(CASES[name], tmp_path)
    # What the file says does not matter: it is not run.
    (found.folder / "modeling_triarch.py").write_text("raise SystemExit('run')")
    write_import(open_folder(found.folder), tmp_path / "back")
    old, new = read_manifest(found.export), read_manifest(tmp_path / "back")
    assert (old.config, old.fingerprint) == (new.config, new.fingerprint)
    found.model.save_pretrained(tmp_path / "theirs")
    parity.assert_same_tensors(found.folder, tmp_path / "theirs")
    write_import(open_folder(tmp_path / "theirs"), tmp_path / "again")
    assert read_manifest(tmp_path / "again").fingerprint == old.fingerprint
    stored = open_export(tmp_path / "again")
    assert choose_family(stored).name in ("redllm", "decllm")


def theirs(model, prompts, **options):
    two_sided = model.config.is_encoder_decoder
    longest = max(map(len, prompts))
    pads = [[PAD] * (longest - len(prompt)) for prompt in prompts]
    rows = [p + pad if two_sided else pad + p for p, pad in zip(prompts, pads, strict=True)]
    tokens = torch.tensor(rows)
    out = model.generate(
        tokens, attention_mask=(tokens != PAD).long(), max_new_tokens=NEW_TOKENS, do_sample=False, **options
    )
    texts = [row[1 if two_sided else longest :].tolist() for row in out]
    return [text[: text.index(EOS)] if EOS in text else text for text in texts]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["redllm", "decllm", "redllm, others", "redllm, gemma", "decllm, others"])
def test_generate_writes_the_same(name, tmp_path):
    found = exported(CASES[name], tmp_path)
    start = (BOS,) if found.model.config.is_encoder_decoder else ()
    for beams, length_penalty in ((1, 1.0), (3, 1.0), (3, 0.0)):
        options = dict(num_beams=beams, length_penalty=length_penalty)
        settings = GenerationSettings(NEW_TOKENS, stop_tokens=((EOS,),), **options)
        wanted = generate(found.loaded, PROMPTS, settings, start=start)
        assert theirs(found.model, PROMPTS, **options) == wanted
        assert theirs(found.model, PROMPTS, **options, use_cache=False) == wanted


@pytest.mark.slow
def test_a_prompt_read_in_both_directions(tmp_path):
    """DecLLM + BiAttn: in training by `prefix_mask`, in `generate` by itself, and after an import."""
    objective = {"class": "PrefixLM", "bidirectional_prefix": True}
    found = exported(DEC, tmp_path, dataclasses.replace(exports.ORIGIN, objective=objective))
    assert parity.config_of(found.folder)["bidirectional_prompt"]
    target = parity.side(3, left=False)
    prefix = np.where(np.arange(parity.LENGTH) < 5, target.segments, 0)
    ours = {"decoder_input_tokens": target.tokens, "decoder_segment_ids": target.segments}
    given = {"input_ids": target.tokens, "attention_mask": target.real, "prefix_mask": prefix}
    parity.check(found, given, ours | {"decoder_causal_attention": prefix}, target.real)
    settings = GenerationSettings(NEW_TOKENS, stop_tokens=((EOS,),))
    wanted = generate(found.loaded, PROMPTS, settings, bidirectional_prompt=True)
    assert wanted != generate(found.loaded, PROMPTS, settings)
    assert theirs(found.model, PROMPTS) == wanted
    with pytest.raises(ValueError, match="use_cache=True"):
        theirs(found.model, PROMPTS, use_cache=False)
    write_import(open_folder(found.folder), tmp_path / "back", vocabulary=exports.VOCABULARY)
    assert Conventions.of(triarch.load(tmp_path / "back")).bidirectional_prompt


@pytest.mark.slow
@pytest.mark.parametrize("name", ["redllm", "decllm"])
def test_it_trains_in_torch(name, tmp_path):
    """By labels, with and without checkpointed activations; what was trained comes back."""
    model = exported(CASES[name], tmp_path).model
    model.config.decoder_start_token_id = BOS
    tokens = torch.from_numpy(parity.side(4).tokens).long()
    labels = tokens.masked_fill(tokens == PAD, -100)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses, slopes = [], []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(input_ids=tokens, attention_mask=(tokens != PAD).long(), labels=labels).loss.backward()
        slopes.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, checkpointed in zip(*slopes, strict=True):
        torch.testing.assert_close(plain, checkpointed)
    for _ in range(20):
        optimizer.zero_grad()
        loss = model(input_ids=tokens, attention_mask=(tokens != PAD).long(), labels=labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    model.save_pretrained(tmp_path / "trained")
    write_import(open_folder(tmp_path / "trained"), tmp_path / "back")
    loaded = triarch.load(tmp_path / "back", execution=tiny.FLOAT32)
    side = "decoder" if name == "decllm" else "encoder"
    ours = {f"{side}_input_tokens": tokens.numpy(), f"{side}_segment_ids": (tokens != PAD).int().numpy()}
    given = {"input_ids": tokens, "attention_mask": (tokens != PAD).long()}
    if name == "redllm":
        shifted = model.prepare_decoder_input_ids_from_labels(labels)
        given, ours = given | {"decoder_input_ids": shifted}, ours | {"decoder_input_tokens": shifted.numpy()}
    model.eval()
    found, wanted = loaded.logits(ours), model(**given).logits.detach().numpy()
    real = (tokens != PAD).numpy()
    assert np.abs(found - wanted)[real].max() < 1e-4 * np.abs(wanted).max()


def test_options_that_the_file_lacks_are_named(tmp_path, capsys):
    config = dataclasses.replace(DEC, position_encoding="learned", learned_positions=9, prediction_head=True)
    export = exports.export(tmp_path, config)
    output = ["export", f"--workdir={export}", f"--output={tmp_path / 'hf'}", "--format=huggingface"]
    assert main([*output, "--family=decllm"]) == 1
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and "position_encoding = 'learned'" in error[0] and "prediction_head = True" in error[0]
    assert not (tmp_path / "hf").exists()
    assert main(output) == 0
    assert "triarch's own layout" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "hf")
    assert main([*output, "--family=redllm"]) == 1
    assert "encoder-decoder" in capsys.readouterr().err

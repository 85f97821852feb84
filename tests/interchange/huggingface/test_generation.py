"""Greedy and beam outputs of imported models against transformers' `generate`, token for token."""

from __future__ import annotations

import pytest

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.decoders import test_gpt2, test_llama
from tests.interchange.huggingface.families.encoder_decoders import test_bart, test_t5, test_t5gemma
from tests.interchange.huggingface.families.encoders import test_modernbert_decoder
from tests.interchange.huggingface.parity import torch
from triarch.decoding import GenerationSettings, generate
from triarch.interchange.huggingface.generation import Generation

EOS, START, PAD = 5, 3, 0
NEW_TOKENS = 8
PROMPTS = ([7, 31, 9, 22], [11, 30, 2, 8, 19, 4, 22, 6, 13], [40])


def t5gemma():
    one, options = test_t5gemma.CASES["as published"]
    config = dict(encoder=dict(one), decoder=dict(one), vocab_size=parity.VOCAB, **options)
    return parity.make("T5GemmaForConditionalGeneration", "T5GemmaConfig", **config)


MODELS = {
    "llama": lambda: parity.make("LlamaForCausalLM", "LlamaConfig", **test_llama.CASES["llama3 scaling, tied"]),
    "gpt2": lambda: parity.make("GPT2LMHeadModel", "GPT2Config", **test_gpt2.BASE),
    "modernbert-decoder": lambda: test_modernbert_decoder.make(test_modernbert_decoder.CASES["as published"]),
    "t5": lambda: test_t5.make("1.0"),
    "bart": lambda: parity.make(
        "BartForConditionalGeneration", "BartConfig", **test_bart.BASE | dict(forced_eos_token_id=None)
    ),
    "t5gemma": t5gemma,
}


def theirs(model, prompts, beams, length_penalty, forced_end=None):
    """Returns what transformers generates, up to its eos; prompts are padded on the left, an encoder's on the right."""
    two_sided = model.config.is_encoder_decoder
    longest = max(map(len, prompts))
    padded = [p + [PAD] * (longest - len(p)) if two_sided else [PAD] * (longest - len(p)) + p for p in prompts]
    real = [[1] * len(p) + [0] * (longest - len(p)) for p in prompts]
    real = real if two_sided else [row[::-1] for row in real]
    start = {"decoder_start_token_id": START} if two_sided else {}
    out = model.generate(
        torch.tensor(padded),
        attention_mask=torch.tensor(real),
        max_new_tokens=NEW_TOKENS,
        num_beams=beams,
        length_penalty=length_penalty,
        do_sample=False,
        eos_token_id=EOS,
        pad_token_id=PAD,
        forced_eos_token_id=forced_end,
        **start,
    )
    skip = 1 if two_sided else longest
    return [_upto_end(row[skip:].tolist()) for row in out]


def _upto_end(tokens):
    return tokens[: tokens.index(EOS)] if EOS in tokens else tokens[:NEW_TOKENS]


@parity.cases(MODELS, "llama", "modernbert-decoder", "bart", "t5gemma")
def test_tokens_are_the_same(name, tmp_path):
    model = MODELS[name]()
    imported = parity.import_model(model, tmp_path)
    start = (START,) if model.config.is_encoder_decoder else ()
    for beams, length_penalty in ((1, 1.0), (3, 1.0), (3, 0.0), (3, 2.0)):
        settings = GenerationSettings(
            max_new_tokens=NEW_TOKENS, num_beams=beams, length_penalty=length_penalty, stop_tokens=((EOS,),)
        )
        found = generate(imported.loaded, PROMPTS, settings, start=start)
        assert found == theirs(model, PROMPTS, beams, length_penalty), (beams, length_penalty)


@pytest.mark.slow
@parity.cases(MODELS, "bart")
def test_a_forced_end_is_the_same(name, tmp_path):
    """As `forced_eos_token_id` has it: what is as long as it may be ends with it, in beams at no cost."""
    model = MODELS[name]()
    imported = parity.import_model(model, tmp_path)
    start = (START,) if model.config.is_encoder_decoder else ()
    # None of the likeliest, so that nothing ends by itself, and then one that some texts may end with early.
    for end in (29, EOS):
        for beams, length_penalty in ((1, 1.0), (3, 1.0), (3, 2.0)):
            options = dict(num_beams=beams, length_penalty=length_penalty, last_token=end, stop_tokens=((EOS,),))
            found = generate(imported.loaded, PROMPTS, GenerationSettings(NEW_TOKENS, **options), start=start)
            assert found == theirs(model, PROMPTS, beams, length_penalty, end), (end, beams, length_penalty)
            assert all(len(row) < NEW_TOKENS or row[-1] == end for row in found)


@pytest.mark.parametrize(
    ("said", "last"), [({}, None), ({"forced_eos_token_id": 2}, 2), ({"forced_eos_token_id": [9, 5]}, 5)]
)
def test_a_forced_end_is_read(said, last):
    assert Generation.from_fields({}, said).forced_last == last
    assert Generation.from_fields({"decoder": said}, None).forced_last == last

"""Stop texts against transformers' `stop_strings`, token for token: greedy and beams, however the texts are spelled."""

from __future__ import annotations

import itertools

import pytest

from tests.evaluation.few_shot import harness
from tests.interchange.huggingface.parity import torch, transformers
from tests.models import tiny
from triarch.decoding import GenerationSettings, StopTexts, generate
from triarch.interchange import read_export
from triarch.interchange.huggingface import open_folder, write_import
from triarch.tokenizers import HuggingFaceTokenizer

NEW_TOKENS = 10
PROMPTS = ([7, 31, 9, 22], [111, 30, 2, 8, 19, 4, 122, 6, 13], [40])
MODELS = {
    "gpt2": ("gpt2", "GPT2LMHeadModel", "GPT2Config", dict(n_embd=24, n_layer=1, n_head=4, n_positions=80)),
    "bart": (
        "modernbert", "BartForConditionalGeneration", "BartConfig",
        dict(
            d_model=24, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=40, decoder_ffn_dim=40, max_position_embeddings=80, decoder_start_token_id=2,
            forced_eos_token_id=None,
        ),
    ),
}  # fmt: skip


def theirs(model, tokenizer, prompts, beams, stops):
    """Returns what transformers generates, up to its eos; prompt by prompt, so that there is no padding."""
    found = []
    for prompt in prompts:
        more = {"stop_strings": list(stops), "tokenizer": tokenizer} if stops else {}
        out = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones((1, len(prompt)), dtype=int), num_beams=beams,
            max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0, **more,
        )  # fmt: skip
        new = out[0, 1 if model.config.is_encoder_decoder else len(prompt) :].tolist()
        eos = model.generation_config.eos_token_id
        found.append(new[: new.index(eos)] if eos in new else new)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_the_same(name, tmp_path):
    layout, class_name, config_name, options = MODELS[name]
    folder = harness.write_model(tmp_path / "hf", layout, class_name, config_name, **options)
    model = getattr(transformers, class_name).from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    write_import(open_folder(folder), tmp_path / "export")
    loaded, ours = read_export(tmp_path / "export", tiny.FLOAT32), HuggingFaceTokenizer.load(folder)
    start = (2,) if model.config.is_encoder_decoder else ()
    eos = ((model.generation_config.eos_token_id,),)

    def mine(beams, stops):
        settings = GenerationSettings(max_new_tokens=NEW_TOKENS, num_beams=beams, stop_tokens=eos)
        texts = StopTexts.of(stops, ours.token_texts) if stops else None
        return generate(loaded, PROMPTS, settings, start=start, stop_texts=texts)

    for beams in (1, 3):
        whole = theirs(model, tokenizer, PROMPTS, beams, ())
        assert mine(beams, ()) == whole
        stops = spelled_across_tokens(ours, whole)
        stopped = theirs(model, tokenizer, PROMPTS, beams, stops)
        assert mine(beams, stops) == stopped
        assert stopped != whole


def spelled_across_tokens(tokenizer, whole):
    """Returns texts from the middle of what is written without them, each from within a token to within another."""
    stops = []
    for tokens in whole:
        texts = [tokenizer.token_texts[token] for token in tokens]
        for one, other in itertools.pairwise(texts[2:]):
            if len(one) > 1 and one.isascii() and other.isascii() and other.strip():
                stops.append((one[-1:] + other[:1]).decode())
                break
    if not stops:
        pytest.fail("nothing is written that a stop text could be cut from")
    return stops

"""Generation against the forward pass over the whole text, taken again for every token."""

import dataclasses
import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from triarch.decoding import GenerationSettings, Generator, fill_masks, generate, generate_by_masks
from triarch.errors import UserError
from triarch.interchange import LoadedModel, Origin, Placement

PROMPTS = ([7, 3, 9], [11, 30, 2, 8, 19, 4, 22, 5, 13], [40])
MASK = 3


@functools.cache
def loaded(config):
    model = nnx.merge(*tiny.split(config))
    return LoadedModel(Path("tiny"), model, Origin(), Placement.one_device())


def next_logits(config, prompt, new, both_ways=False):
    """Returns logits of the next token, from the whole text without a cache."""
    if config.architecture == "encoder-decoder":
        batch = {"encoder_input_tokens": [prompt], "decoder_input_tokens": [[0, *new]]}
    else:
        batch = {"decoder_input_tokens": [[*prompt, *new]]}
        if both_ways:
            batch["decoder_causal_attention"] = [[1] * len(prompt) + [0] * len(new)]
    # Padded to one length, so that one program serves all.
    padded = {name: np.pad(value, ((0, 0), (0, 24 - len(value[0])))).astype(np.int32) for name, value in batch.items()}
    for name in [name for name in batch if name.endswith("tokens")]:
        padded[name.replace("input_tokens", "segment_ids")] = (np.arange(24) < len(batch[name][0]))[None].astype(
            np.int32
        )
    last = len(batch["decoder_input_tokens"][0]) - 1
    return tiny.logits(config, padded)[0, last]


def greedy(config, prompt, count, **options):
    new = []
    for _ in range(count):
        new.append(int(next_logits(config, prompt, new, **options).argmax()))
    return new


@pytest.mark.parametrize("family", ["redllm", "ettin_decoder", "t5"])
def test_greedy_takes_the_likeliest_token_of_the_whole_text(family):
    config = tiny.FAMILIES[family]
    found = generate(loaded(config), PROMPTS, GenerationSettings(max_new_tokens=6))
    assert found == [greedy(config, prompt, 6) for prompt in PROMPTS]


def test_a_prompt_seen_in_both_directions():
    prompts = np.random.default_rng(1).integers(1, 61, (8, 9)).tolist()
    found = generate(loaded(tiny.DECLLM), prompts, GenerationSettings(max_new_tokens=3), bidirectional_prompt=True)
    assert found == [greedy(tiny.DECLLM, prompt, 3, both_ways=True) for prompt in prompts]
    assert found != [greedy(tiny.DECLLM, prompt, 3) for prompt in prompts]


def test_a_prompt_s_neighbours_do_not_matter():
    """A sampled token is a function of its logits, seed, row and step: not of the batch, nor of how far others are."""
    settings = GenerationSettings(max_new_tokens=6, temperature=1.0, seed=5)
    together = generate(loaded(tiny.DECLLM), PROMPTS, settings)
    assert generate(loaded(tiny.DECLLM), PROMPTS, settings, batch_size=1) == together
    alone = [generate(loaded(tiny.DECLLM), [p], settings, first_row=row)[0] for row, p in enumerate(PROMPTS)]
    assert alone == together
    assert generate(loaded(tiny.DECLLM), PROMPTS, dataclasses.replace(settings, seed=6)) != together


def test_a_filter_of_one_is_greedy():
    settings = GenerationSettings(max_new_tokens=6, temperature=2.0, top_k=1)
    expected = generate(loaded(tiny.DECLLM), PROMPTS, GenerationSettings(max_new_tokens=6))
    assert generate(loaded(tiny.DECLLM), PROMPTS, settings) == expected


def test_a_stop_sequence_ends_its_row_and_is_left_out():
    whole = generate(loaded(tiny.DECLLM), PROMPTS, GenerationSettings(max_new_tokens=8, temperature=1.0, seed=2))
    row, first = 1, 3
    stop = tuple(whole[row][first : first + 2])
    assert all(stop != pair for pair in zip(whole[row][:first], whole[row][1 : first + 1], strict=True))
    settings = GenerationSettings(max_new_tokens=8, temperature=1.0, seed=2, stop_tokens=((38, 37, 1), stop))
    found = generate(loaded(tiny.DECLLM), PROMPTS, settings)
    assert found[row] == whole[row][:first]
    assert found[0] == _upto(whole[0], stop) and found[2] == _upto(whole[2], stop)


def _upto(tokens, stop):
    places = [i for i in range(len(tokens) - 1) if tuple(tokens[i : i + 2]) == stop]
    return tokens[: places[0]] if places else tokens


def test_the_prompt_is_no_part_of_a_stop_sequence():
    settings = GenerationSettings(max_new_tokens=4)
    first = generate(loaded(tiny.DECLLM), PROMPTS, settings)[0]
    stop = (PROMPTS[0][-1], first[0])
    found = generate(loaded(tiny.DECLLM), PROMPTS, dataclasses.replace(settings, stop_tokens=(stop,)))[0]
    assert found == _upto(first, stop)


@pytest.mark.parametrize("chunk", [1, 3, 50])
def test_a_stream_is_what_generate_returns_in_pieces(chunk):
    whole = generate(loaded(tiny.DECLLM), PROMPTS, GenerationSettings(max_new_tokens=8, temperature=1.0, seed=2))
    settings = GenerationSettings(max_new_tokens=8, temperature=1.0, seed=2, stop_tokens=(tuple(whole[1][4:6]),))
    pieces = list(Generator(loaded(tiny.DECLLM)).stream(PROMPTS, settings, chunk=chunk))
    assert len(pieces) == -(-8 // chunk)
    assert [list(itertools.chain(*row)) for row in zip(*pieces, strict=True)] == generate(
        loaded(tiny.DECLLM), PROMPTS, settings
    )


def test_one_program_serves_a_bucket_of_shapes():
    model = dataclasses.replace(loaded(tiny.LLAMA3))
    generator = Generator(model)
    for size in (3, 4):
        for length in (2, 5, 11):
            generator.generate([[1] * length] * size, GenerationSettings(max_new_tokens=length))
    programs = generator.prepared._programs
    assert {name: program._cache_size() for name, program in programs.items()} == {("begin", 16): 1, "proceed": 1}


def masked_logits(tokens, place):
    length = len(tokens)
    batch = {
        "encoder_input_tokens": np.pad([tokens], ((0, 0), (0, 24 - length))).astype(np.int32),
        "encoder_segment_ids": (np.arange(24) < length)[None].astype(np.int32),
    }
    logits = tiny.logits(tiny.ETTIN_ENCODER, batch)[0, place].copy()
    logits[MASK] = -np.inf
    return logits


def test_masks_are_filled_from_the_left():
    texts = [[5, MASK, 9, MASK, MASK, 2], [MASK, 6], [1, 2, 4, MASK, 7, 7, 7, 7, 7, MASK]]
    expected = []
    for text in texts:
        text = list(text)
        while MASK in text:
            text[text.index(MASK)] = int(masked_logits(text, text.index(MASK)).argmax())
        expected.append(text)
    assert fill_masks(loaded(tiny.ETTIN_ENCODER), texts, MASK, GenerationSettings()) == expected


@pytest.mark.parametrize("after", [(), (8, 1)])
def test_an_encoder_writes_into_the_first_of_three_masks(after):
    expected = []
    for prompt in PROMPTS:
        new = []
        for _ in range(5):
            text = [*prompt, *new, MASK, MASK, MASK, *after]
            new.append(int(masked_logits(text, len(prompt) + len(new)).argmax()))
        expected.append(new)
    settings = GenerationSettings(max_new_tokens=5)
    assert generate_by_masks(loaded(tiny.ETTIN_ENCODER), PROMPTS, MASK, settings, after) == expected
    stopped = dataclasses.replace(settings, stop_tokens=((expected[0][2],),))
    found = generate_by_masks(loaded(tiny.ETTIN_ENCODER), PROMPTS, MASK, stopped, after)[0]
    assert found == expected[0][: expected[0].index(expected[0][2])]


MISTAKES = {
    "expected at least 1": {"num_beams": 0},
    "max_new_tokens=1000000000: expected 1 to 1,048,576": {"max_new_tokens": 10**9},
    "expected 0 or more": {"temperature": -0.5},
    "not in the vocabulary": {"stop_tokens": ((5, 61),)},
    "has no effect at temperature 0": {"top_p": 0.5},
    "does not sample": {"num_beams": 2, "temperature": 1.0},
    "above 0, at most 1": {"min_p": 1.5, "temperature": 1.0},
    "ends beams by one token": {"num_beams": 2, "stop_tokens": ((1, 2),)},
    "max_new_tokens=0": {"max_new_tokens": 0},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_settings_out_of_range(message):
    with pytest.raises(UserError, match=message):
        generate(loaded(tiny.DECLLM), PROMPTS, GenerationSettings(**MISTAKES[message]))


def test_prompts_that_do_not_go():
    settings = GenerationSettings(max_new_tokens=10)
    for config, prompt, message in (
        (tiny.DECLLM, [], "prompt 2 is empty"),
        (tiny.DECLLM, [61], "holds the id 61, the model knows 0 to 60"),
        (tiny.GPT2, [1] * 32, "32 tokens, and max_new_tokens=10 more go beyond .* 40 positions: at most 9 more"),
        (tiny.GPT2, [1] * 41, "prompt 2 has 41 tokens, the model has positions for 40"),
        (tiny.BART, [1] * 39, "prompt 2 has 39 tokens, the model has positions for 38"),
        (tiny.BERT, [1], "an encoder has no decoder"),
    ):
        with pytest.raises(UserError, match=message):
            generate(loaded(config), [[1], prompt], settings)
    with pytest.raises(UserError, match="batch_size=0: expected at least 1"):
        generate(loaded(tiny.DECLLM), [[1]], settings, batch_size=0)
    with pytest.raises(UserError, match="has no mask to fill"):
        fill_masks(loaded(tiny.ETTIN_ENCODER), [[1, MASK], [1]], MASK, settings)
    with pytest.raises(UserError, match="only an encoder fills masks"):
        generate_by_masks(loaded(tiny.DECLLM), [[1]], MASK, settings)
    with pytest.raises(UserError, match="and needs 12 more, the model has positions for 40"):
        generate_by_masks(loaded(tiny.BERT), [[1] * 30], MASK, settings)

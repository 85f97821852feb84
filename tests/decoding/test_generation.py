"""Generation against the plain float64 transcription of the networks on the whole text."""

import dataclasses
import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from tests.models.reference import Reference
from triarch.decoding import GenerationSettings, Generator, fill_masks, generate, generate_by_masks
from triarch.errors import UserError
from triarch.interchange import LoadedModel, Origin, Placement
from triarch.models.network import split

PROMPTS = ([7, 3, 9], [11, 30, 2, 8, 19, 4, 22, 5, 13], [40])
MASK = 3
# Layers are compiled one by one: as few as have what is tested.
SHALLOW = dataclasses.replace(tiny.DECLLM, num_decoder_layers=2)
ENCODER = dataclasses.replace(tiny.ETTIN_ENCODER, num_encoder_layers=2)
GREEDY = {
    "redllm": dataclasses.replace(tiny.REDLLM, num_encoder_layers=1, num_decoder_layers=2),
    "ettin_decoder": dataclasses.replace(tiny.ETTIN_DECODER, num_decoder_layers=4),
    "t5": tiny.T5,
}


@functools.cache
def loaded(config):
    model = nnx.merge(*tiny.split(config))
    return LoadedModel(Path("tiny"), *split(model), Origin(), Placement.one_device())


@functools.cache
def plain(config):
    return Reference(config, tiny.parameters(config))


def likeliest(config, prompt, new, prefix=0):
    """Returns the likeliest token at each place of `new`, from the whole text without a cache."""
    if config.architecture == "encoder-decoder":
        logits = plain(config).logits(prompt, [0, *new])[:-1]
    else:
        logits = plain(config).logits(None, [*prompt, *new], prefix)[len(prompt) - 1 : -1]
    return logits.argmax(-1).tolist()


def settings_of(stops=(), **options):
    """Returns settings for one program: as many stop sequences and as long ones, whatever they are."""
    filling = ((0, 0, 0, 0), (0, 0, 0, 1))
    return GenerationSettings(**options, stop_tokens=(*stops, *filling[len(stops) :]))


DRAWN = dict(max_new_tokens=8, temperature=1.0, seed=2)


@pytest.mark.parametrize("name", [*list(GREEDY)[:2], pytest.param("t5", marks=pytest.mark.slow)])
def test_greedy_takes_the_likeliest_token_of_the_whole_text(name):
    config = GREEDY[name]
    found = generate(loaded(config), PROMPTS, GenerationSettings(max_new_tokens=6))
    assert found == [likeliest(config, prompt, new) for prompt, new in zip(PROMPTS, found, strict=True)]
    assert all(len(new) == 6 for new in found)


def test_a_prompt_seen_in_both_directions():
    prompts = np.random.default_rng(1).integers(1, 61, (8, 9)).tolist()
    found = generate(loaded(SHALLOW), prompts, GenerationSettings(max_new_tokens=3), bidirectional_prompt=True)
    both = list(zip(prompts, found, strict=True))
    assert found == [likeliest(SHALLOW, prompt, new, prefix=9) for prompt, new in both]
    assert found != [likeliest(SHALLOW, prompt, new) for prompt, new in both]


def test_a_prompt_s_neighbours_do_not_matter():
    """A sampled token is a function of its logits, seed, row and step: not of the batch, nor of how far others are."""
    settings = settings_of(**DRAWN)
    together = generate(loaded(SHALLOW), PROMPTS, settings)
    assert generate(loaded(SHALLOW), PROMPTS, settings, batch_size=1) == together
    alone = [generate(loaded(SHALLOW), [p], settings, first_row=row)[0] for row, p in enumerate(PROMPTS)]
    assert alone == together
    assert generate(loaded(SHALLOW), PROMPTS, dataclasses.replace(settings, seed=6)) != together


def test_a_stop_sequence_ends_its_row_and_is_left_out():
    whole = generate(loaded(SHALLOW), PROMPTS, settings_of(**DRAWN))
    # A pair of tokens that appears late in its row for the first time.
    pairs = {(row, i): tuple(whole[row][i : i + 2]) for row in range(3) for i in range(7)}
    late = (at for at in pairs if at[1] > 1 and pairs[at] not in [pairs[at[0], i] for i in range(at[1])])
    row, first = next(late)
    stop = pairs[row, first]
    found = generate(loaded(SHALLOW), PROMPTS, settings_of(((38, 37, 1, 1), stop), **DRAWN))
    assert found[row] == whole[row][:first]
    assert found == [_upto(tokens, stop) for tokens in whole]


def _upto(tokens, stop):
    places = [i for i in range(len(tokens) - 1) if tuple(tokens[i : i + 2]) == stop]
    return tokens[: places[0]] if places else tokens


def test_the_prompt_is_no_part_of_a_stop_sequence():
    first = generate(loaded(SHALLOW), PROMPTS, settings_of(**DRAWN))[0]
    stop = (PROMPTS[0][-1], first[0])
    assert generate(loaded(SHALLOW), PROMPTS, settings_of((stop,), **DRAWN))[0] == _upto(first, stop)


@pytest.mark.parametrize("chunk", [1, 3, 50])
def test_a_stream_is_what_generate_returns_in_pieces(chunk):
    whole = generate(loaded(SHALLOW), PROMPTS, settings_of(**DRAWN))
    settings = settings_of((tuple(whole[1][4:6]),), **DRAWN)
    pieces = list(Generator(loaded(SHALLOW)).stream(PROMPTS, settings, chunk=chunk))
    assert len(pieces) == -(-8 // chunk)
    assert [list(itertools.chain(*row)) for row in zip(*pieces, strict=True)] == generate(
        loaded(SHALLOW), PROMPTS, settings
    )


def test_one_program_serves_a_bucket_of_shapes():
    model = dataclasses.replace(loaded(SHALLOW))
    generator = Generator(model)
    for size in (3, 4):
        for length in (2, 5, 11):
            generator.generate([[1] * length] * size, GenerationSettings(max_new_tokens=length))
    programs = generator.prepared._programs
    assert {name: program._cache_size() for name, program in programs.items()} == {("begin", 16): 1, "proceed": 1}


def likeliest_at(tokens, place):
    logits = plain(ENCODER).logits(None, tokens)[place]
    logits[MASK] = -np.inf
    return int(logits.argmax())


def test_masks_are_filled_from_the_left():
    texts = [[5, MASK, 9, MASK, MASK, 2], [MASK, 6], [1, 2, 4, MASK, 7, 7, 7, 7, 7, MASK]]
    expected = []
    for text in texts:
        text = list(text)
        while MASK in text:
            text[text.index(MASK)] = likeliest_at(text, text.index(MASK))
        expected.append(text)
    assert fill_masks(loaded(ENCODER), texts, MASK, GenerationSettings()) == expected


@pytest.mark.parametrize("after", [pytest.param((), marks=pytest.mark.slow), (8, 1)])
def test_an_encoder_writes_into_the_first_of_three_masks(after):
    expected = []
    for prompt in PROMPTS:
        new = []
        for _ in range(5):
            text = [*prompt, *new, MASK, MASK, MASK, *after]
            new.append(likeliest_at(text, len(prompt) + len(new)))
        expected.append(new)
    settings = GenerationSettings(max_new_tokens=5)
    assert generate_by_masks(loaded(ENCODER), PROMPTS, MASK, settings, after) == expected
    stopped = dataclasses.replace(settings, stop_tokens=((expected[0][2],),))
    found = generate_by_masks(loaded(ENCODER), PROMPTS, MASK, stopped, after)[0]
    assert found == expected[0][: expected[0].index(expected[0][2])]


MISTAKES = {
    "num_beams=0: expected a whole number from 1 on": {"num_beams": 0},
    "max_new_tokens=1000000000: expected at most 1,048,576": {"max_new_tokens": 10**9},
    "expected a number from 0 on": {"temperature": -0.5},
    "not in the vocabulary": {"stop_tokens": ((5, 61),)},
    "has no effect at temperature 0": {"top_p": 0.5},
    "does not sample": {"num_beams": 2, "temperature": 1.0},
    "expected at most 1": {"min_p": 1.5, "temperature": 1.0},
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

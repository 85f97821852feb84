"""Beam search against a search through every continuation there is."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from tests.decoding.test_generation import loaded
from tests.models import tiny
from tests.models.reference import Reference
from triarch.decoding import GenerationSettings, generate

VOCAB, STOP, STEPS = 4, 1, 3
PROMPTS = ((3, 2), (2, 0, 3, 3, 2), (1,))
CASES = ((0.0, True), (1.0, True), (2.5, True), (-1.0, True), (1.0, False))
CONFIGS = {
    "decoder-only": dataclasses.replace(tiny.DECLLM, vocab_size=VOCAB, num_decoder_layers=1),
    "local layers": dataclasses.replace(tiny.ETTIN_DECODER, vocab_size=VOCAB, num_decoder_layers=3, sliding_window=1),
    "encoder-decoder": dataclasses.replace(tiny.REDLLM, vocab_size=VOCAB, pad_id=0),
}


@functools.cache
def log_probabilities(config, prompt):
    """Returns log-probabilities [continuations, STEPS, VOCAB] along every continuation, and the continuations."""
    every = np.array(list(itertools.product(range(VOCAB), repeat=STEPS)), np.int32)
    plain, two_sided = Reference(config, tiny.parameters(config)), config.num_encoder_layers > 0
    read = {tuple(one): [*([0] if two_sided else prompt), *one] for one in every[:, :-1].tolist()}
    found = {one: plain.logits(prompt if two_sided else None, tokens)[-STEPS:] for one, tokens in read.items()}
    logits = np.stack([found[tuple(one)] for one in every[:, :-1].tolist()])
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True)), every


def best(config, prompt, length_penalty, has_stop):
    """Returns the continuation of the highest score among those that end with the stop token or at STEPS tokens."""
    logs, every = log_probabilities(config, prompt)
    scores = {}
    for log, continuation in zip(logs, every.tolist(), strict=True):
        count = continuation.index(STOP) + 1 if has_stop and STOP in continuation else STEPS
        total = sum(log[step, continuation[step]] for step in range(count))
        scores[tuple(continuation[:count])] = total / count**length_penalty
    found = list(max(scores, key=scores.get))
    return found[:-1] if has_stop and found[-1] == STOP else found


@pytest.mark.parametrize(
    "name", ["decoder-only", *(pytest.param(name, marks=pytest.mark.slow) for name in list(CONFIGS)[1:])]
)
def test_enough_beams_find_the_best_continuation(name):
    config = CONFIGS[name]
    for length_penalty, has_stop in CASES if name == "decoder-only" else CASES[:-1]:
        settings = GenerationSettings(
            max_new_tokens=STEPS,
            num_beams=VOCAB**STEPS,
            length_penalty=length_penalty,
            stop_tokens=((STOP,),) if has_stop else (),
        )
        expected = [best(config, prompt, length_penalty, has_stop) for prompt in PROMPTS]
        assert generate(loaded(config), PROMPTS, settings) == expected


def test_the_length_penalty_chooses_the_length():
    """A case where penalties disagree: short for a low one, long for a high one."""
    config = CONFIGS["decoder-only"]
    low, high = (best(config, PROMPTS[1], penalty, True) for penalty in (-1.0, 2.5))
    assert len(low) < len(high)


@pytest.mark.slow
def test_beams_do_not_depend_on_their_neighbours():
    config = dataclasses.replace(tiny.REDLLM, num_encoder_layers=1, num_decoder_layers=1)
    settings = GenerationSettings(max_new_tokens=5, num_beams=3, stop_tokens=((7,), (9,)))
    prompts = [[5, 3], [8, 8, 1, 2, 44, 6], [30]]
    together = generate(loaded(config), prompts, settings)
    assert together == [generate(loaded(config), [prompt], settings)[0] for prompt in prompts]

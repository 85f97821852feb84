"""Generation as programs: what they keep and compute, by hand, and that they compile where no TPU is."""

import dataclasses

import jax
import pytest

from tests.training import tiny
from triarch.errors import UserError
from triarch.planning import generation, programs
from triarch.planning.generation import Lengths

LENGTHS = Lengths(prompt=24, new_tokens=8)


def assembled(architecture):
    return programs.assembled(tiny.run_config("none", architecture, batch_size=4), jax.devices()[:1])


@pytest.mark.parametrize("architecture", ["decoder-only", "encoder-decoder"])
def test_what_is_kept_of_prompts_and_new_tokens(architecture):
    """Keys and values in float32 of 24 tokens and room for 16 more, or of an encoder's 24 and of 1 + 16 tokens."""
    run = assembled(architecture)
    config = run.config.model
    columns = 24 + 16 if architecture == "decoder-only" else 24 + 1 + 16
    width = config.kv_heads * config.head_dim
    expected = 4 * config.num_decoder_layers * 2 * columns * width * 4
    assert generation.cache_bytes(run, LENGTHS) == expected
    memory = generation.lowered(run, "decode", LENGTHS).compile().memory_analysis()
    parameters = 4 * config.num_params()
    assert expected + parameters <= memory.argument_size_in_bytes < expected + parameters + 4096
    assert memory.alias_size_in_bytes >= expected  # Written in place.


def test_a_new_token_takes_the_work_of_one_token_of_a_text():
    """2 FLOPs a parameter, those of the embedding as logits; and 4 a feature of each head and token attended to."""
    config = tiny.model("decoder-only")
    norms = config.d_model * (2 * config.num_decoder_layers + 1)
    logits = 2 * config.vocab_size * config.d_model
    body = 2 * (config.num_params() - norms) - logits
    attended = 4 * config.num_decoder_layers * config.num_heads * config.head_dim
    one_more = generation.flops_per_row(config, "decode", LENGTHS, "train")
    assert one_more == pytest.approx(body + logits + attended * (24 + 8 - 1), rel=0.02)
    prompt = generation.flops_per_row(config, "prefill", LENGTHS, "train")
    assert prompt == pytest.approx(24 * body + logits + attended * sum(range(1, 25)), rel=0.02)


@pytest.mark.parametrize(
    ("architecture", "lengths", "message"),
    [
        ("encoder-only", LENGTHS, "an encoder has no decoder to generate with"),
        ("decoder-only", Lengths(0, 8), "prompt_length=0: expected at least 1"),
        ("decoder-only", Lengths(8, 0), "max_new_tokens=0"),
    ],
)
def test_what_cannot_be_generated_is_refused(architecture, lengths, message):
    with pytest.raises(UserError, match=message):
        lengths.validate(tiny.model(architecture))


def test_places_end_where_the_table_of_positions_does():
    config = dataclasses.replace(tiny.model("decoder-only"), learned_positions=30)
    with pytest.raises(UserError, match="positions"):
        LENGTHS.validate(config)

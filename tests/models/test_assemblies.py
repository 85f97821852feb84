"""Whole networks against the plain reference, alone, padded and packed, with every named option."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.models import tiny
from tests.models.reference import Reference
from tests.models.tiny import DECLLM, ETTIN_DECODER, ETTIN_ENCODER, FAMILIES, REDLLM

UNIT_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}
MARGIN = 10.0
BRIEF = dataclasses.replace(REDLLM, num_encoder_layers=1, num_decoder_layers=1)
OPTIONS = {
    "no extra norms": dataclasses.replace(BRIEF, qkv_norm=False, attention_output_norm="none"),
    "norm over all heads, scales by name": dataclasses.replace(
        BRIEF, attention_output_norm="all_heads", embedding_scale="sqrt_d_model", logits_scale="rsqrt_d_model"
    ),
    "norm after projection, gains, restarted positions": dataclasses.replace(
        BRIEF, attention_output_norm="projected", norm_scale="gain", decoder_positions="restart"
    ),
    "restarted, no cross rope, grouped heads": dataclasses.replace(
        BRIEF, decoder_positions="restart", cross_attention_rope=False, num_heads=6, num_kv_heads=2, rope_base=50.0
    ),
    "local encoder-decoder, LayerNorm, head": dataclasses.replace(
        ETTIN_ENCODER, num_encoder_layers=2, num_decoder_layers=2, qkv_norm=True, sliding_window=1, global_every=2
    ),
    "one key head, plain feed-forward, scales by number": dataclasses.replace(
        DECLLM, num_heads=3, num_kv_heads=1, gated_mlp=False, activation="relu", embedding_scale=3.5, logits_scale=0.25
    ),
    "GeGLU tanh, one layer, window of none": dataclasses.replace(
        ETTIN_DECODER, num_decoder_layers=1, activation="gelu_tanh", vocab_size=101, sliding_window=0, global_every=2
    ),
    "norms of queries and keys over all heads, norms on outputs": dataclasses.replace(
        BRIEF,
        num_heads=4,
        num_kv_heads=2,
        qkv_norm=False,
        qk_norm="all_heads",
        norm_position="output",
        norm_scale="gain",
    ),
    "norms of queries and keys per head, LayerNorm": dataclasses.replace(
        ETTIN_DECODER, num_decoder_layers=2, qk_norm="per_head", norm_bias=True
    ),
    "sublayers side by side, half of a head rotated": dataclasses.replace(
        BRIEF, parallel_residual=True, rope_fraction=0.5, norm_scale="gain"
    ),
    "local base unset, no gains": dataclasses.replace(
        ETTIN_ENCODER, local_rope_base=None, norm_scale="none", first_attention_norm=True
    ),
}


def expected(config, one, prefix=0):
    return Reference(config, tiny.parameters(config)).logits(one.source, one.inputs, prefix)


def assert_equals_reference(config, layout, execution):
    """Holds a batch's logits to the float64 reference, within what rounding alone explains."""
    actual = tiny.logits(config, layout.batch, execution)
    known = {id(one): expected(config, one) for one in layout.documents}
    tolerance = rounding(config, layout.documents)
    if execution is tiny.FLOAT64:
        tolerance *= UNIT_ROUNDOFF["float64"] / UNIT_ROUNDOFF["float32"]
    for index, one in enumerate(layout.documents):
        np.testing.assert_allclose(layout.of(actual, index), known[id(one)], rtol=0, atol=tolerance)


def rounding(config, documents, prefix=0):
    """Returns a bound of the error of float32 logits: several times that of the reference run in float32.

    Sums of tens of terms in another order, and angles and exponentials rounded too, change an error by less than that.
    """
    plain = Reference(config, tiny.parameters(config), np.float32)
    unlike = {id(one): one for one in documents}.values()
    return MARGIN * max(
        np.abs(plain.logits(one.source, one.inputs, prefix) - expected(config, one, prefix)).max() for one in unlike
    )


def every_layout(config):
    """Documents alone, padded on the right and on the left, and packed, in one batch."""
    a, b, c = tiny.documents(config)
    return tiny.lay_out(config, [[a, b, c], [c, a], [c, b], [b], [c]], length=21, left={2, 4})


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_logits_equal_the_reference(family):
    config = FAMILIES[family]
    assert_equals_reference(config, every_layout(config), tiny.FLOAT32)


@pytest.mark.parametrize("family", FAMILIES)
def test_float64_logits_equal_the_reference(family):
    config = FAMILIES[family]
    with jax.enable_x64(True):
        assert_equals_reference(config, every_layout(config), tiny.FLOAT64)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_equals_the_reference(option):
    config = OPTIONS[option]
    with jax.enable_x64(True):
        assert_equals_reference(config, every_layout(config), tiny.FLOAT64)


@pytest.mark.parametrize("family", ["redllm", "ettin_encoder"])
def test_without_segment_ids_the_pad_token_marks_padding_of_the_encoder(family):
    config = FAMILIES[family]
    one = tiny.documents(config)[0]
    layout = tiny.lay_out(config, [[one], [one]], length=10, left={1})
    batch = {name: value for name, value in layout.batch.items() if name != "encoder_segment_ids"}
    actual = tiny.logits(config, batch)
    for index in range(2):
        within = rounding(config, [one])
        np.testing.assert_allclose(layout.of(actual, index), expected(config, one), rtol=0, atol=within)


def test_a_document_with_nothing_in_the_encoder_sees_no_other_document():
    a, b, _ = tiny.documents(REDLLM)
    empty = tiny.document(REDLLM, 0, 4, seed=9)
    layout = tiny.lay_out(REDLLM, [[a, empty, b], [empty]], length=18)
    assert_equals_reference(REDLLM, layout, tiny.FLOAT32)


def test_another_pad_id_marks_padding():
    config = dataclasses.replace(REDLLM, pad_id=60)
    one = tiny.document(dataclasses.replace(config, vocab_size=60), 5, 4, seed=3)
    batch = tiny.alone(config, one)
    batch["encoder_input_tokens"] = np.pad(batch["encoder_input_tokens"], ((0, 0), (0, 3)), constant_values=60)
    within = rounding(config, [one])
    np.testing.assert_allclose(tiny.logits(config, batch)[0], expected(config, one), rtol=0, atol=within)


def test_positions_given_in_the_batch_are_those_of_the_segments():
    """SeqIO's packing gives `*_positions` that begin at 0 in each segment; giving them changes nothing."""
    a, b, c = tiny.documents(REDLLM)
    batch = tiny.lay_out(REDLLM, [[a, b, c]], length=20).batch
    places = {
        "encoder_positions": [[*range(7), *range(3), *range(4), *range(6)]],
        "decoder_positions": [[*range(5), *range(8), *range(6), 0]],
    }
    given = batch | {name: np.array(value, np.int32) for name, value in places.items()}
    np.testing.assert_array_equal(tiny.logits(REDLLM, batch), tiny.logits(REDLLM, given))


def test_shifted_positions_move_a_decoder():
    """The positions of a batch are used: relative distances count, so spreading them changes logits."""
    batch = tiny.alone(DECLLM, tiny.documents(DECLLM)[0])
    plain = tiny.logits(DECLLM, batch)
    shifted = tiny.logits(DECLLM, batch | {"decoder_positions": np.arange(5, dtype=np.int32)[None] + 9})
    spread = tiny.logits(DECLLM, batch | {"decoder_positions": 3 * np.arange(5, dtype=np.int32)[None]})
    np.testing.assert_allclose(shifted, plain, atol=1e-4)
    assert np.abs(spread - plain).max() > 0.1


@pytest.mark.parametrize("family", ["decllm", "ettin_decoder"])
def test_a_prefix_is_seen_in_both_directions(family):
    config = FAMILIES[family]
    one, prefix = tiny.documents(config)[1], 4
    batch = tiny.alone(config, one)
    batch["decoder_causal_attention"] = (np.arange(len(one.inputs)) < prefix).astype(np.int32)[None]
    wanted = expected(config, one, prefix)
    within = rounding(config, [one], prefix)
    np.testing.assert_allclose(tiny.logits(config, batch)[0], wanted, rtol=0, atol=within)
    assert np.abs(wanted - expected(config, one)).max() > 0.1


def test_continuous_positions_matter():
    """With cross-attention rotated, restarting the decoder's positions is another network."""
    one = tiny.documents(REDLLM)[0]
    restarted = Reference(dataclasses.replace(REDLLM, decoder_positions="restart"), tiny.parameters(REDLLM))
    assert np.abs(restarted.logits(one.source, one.inputs) - expected(REDLLM, one)).max() > 0.1

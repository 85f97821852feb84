"""Rotary embeddings slowed for longer texts, against transformers' `modeling_rope_utils`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.decoders.test_llama import BASE
from tests.interchange.huggingface.families.decoders.test_llama import LLAMA3 as LLAMA3_FIELDS
from triarch.errors import UserError
from triarch.models import RopeScaling
from triarch.models.attention.rope import Rope

# Far fewer tokens than the texts have.
SHORT = dict(max_position_embeddings=5)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 5}
OPTIONS = {"beta_fast": 2.0, "beta_slow": 0.25, "attention_factor": 1.3, "truncate": False}
CASES = {
    "linear": dict(rope_parameters={"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0}),
    "dynamic": SHORT | dict(rope_parameters={"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}),
    "dynamic, short text": dict(rope_parameters={"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}),
    "yarn": SHORT | dict(rope_parameters=YARN | {"rope_theta": 100.0}),
    "yarn, every option": SHORT | dict(rope_parameters=YARN | OPTIONS | {"rope_theta": 50.0}),
    "yarn, scales of two kinds": SHORT
    | dict(rope_parameters=YARN | {"rope_theta": 100.0, "mscale": 1.5, "mscale_all_dim": 0.5}),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    """One text at a time: transformers lets the longest of a batch slow the others."""
    options = BASE | dict(num_hidden_layers=2, head_dim=8) | CASES[name]
    imported = parity.import_model(parity.make("LlamaForCausalLM", "LlamaConfig", **options), tmp_path)
    text = parity.side(1)
    row = slice(0, 1)
    theirs = {"input_ids": text.tokens[row], "position_ids": text.positions[row]}
    parity.check(imported, theirs, {"decoder_input_tokens": text.tokens[row]}, text.real[row])
    parity.check_round_trip(imported, "llama")


def test_the_base_grows_with_each_row_of_its_own(tmp_path):
    """Padding and the other rows of a batch do not count."""
    options = BASE | dict(num_hidden_layers=1, head_dim=8) | CASES["dynamic"]
    imported = parity.import_model(parity.make("LlamaForCausalLM", "LlamaConfig", **options), tmp_path)
    text = parity.side(1)
    ours = {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}
    together = imported.loaded.logits(ours)
    for row in range(3):
        real = text.real[row]
        alone = imported.loaded.logits({"decoder_input_tokens": text.tokens[row : row + 1, real]})
        np.testing.assert_allclose(together[row, real], alone[0], atol=1e-5 * np.abs(alone).max())


@pytest.mark.parametrize("head_dim", [8, 64])
@pytest.mark.parametrize("base", [100.0, 10_000.0])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize(
    ("scaling", "fields"),
    [
        (RopeScaling(3.0, kind="linear"), {"rope_type": "linear", "factor": 3.0}),
        (RopeScaling(8.0, 1.0, 4.0, 16), LLAMA3_FIELDS),
        (RopeScaling(4.0, original_length=5, kind="yarn"), YARN),
        (RopeScaling(4.0, None, None, 5, "yarn", 2.0, 0.25, 1.3, False), YARN | OPTIONS),
    ],
    ids=["linear", "llama3", "yarn", "yarn, every option"],
)
def test_frequencies(scaling, fields, head_dim, base, fraction):
    config = parity.transformers.LlamaConfig(
        hidden_size=2 * head_dim,
        num_attention_heads=2,
        head_dim=head_dim,
        max_position_embeddings=20,
        rope_parameters=fields | {"rope_theta": base, "partial_rotary_factor": fraction},
    )
    compute = parity.transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS[fields["rope_type"]]
    frequencies, magnitude = compute(config)
    rope = Rope(base, scaling, fraction)
    # Theirs are float32.
    np.testing.assert_allclose(rope.frequencies(head_dim), frequencies.numpy(), rtol=1e-6)
    assert rope.magnitude == magnitude


def test_another_kind_is_refused_with_the_nearest(tmp_path):
    parity.make("LlamaForCausalLM", "LlamaConfig", **BASE).save_pretrained(tmp_path)
    fields = parity.config_of(tmp_path)
    for given, nearest in (("su", "one of: default, dynamic, linear, llama3, yarn"), ("yarm", "did you mean 'yarn'")):
        scaled = fields | {"rope_parameters": {"rope_type": given, "rope_theta": 100.0, "factor": 2.0}}
        with pytest.raises(UserError, match=f"rope_type = '{given}'.*{nearest}"):
            parity.network_of(tmp_path, scaled)

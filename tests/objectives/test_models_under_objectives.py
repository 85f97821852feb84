"""What a network makes of an objective's features: padding changes nothing, and no target is seen before its time."""

import dataclasses
import functools

import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from triarch.objectives import MNTP, MaskedLM, Mixture, PrefixLM, SpanCorruption, SpecialTokens
from triarch.objectives.losses import token_losses

WINDOW = 24
SPECIAL = SpecialTokens(pad=0, bos=0, eos=1, mask=2, sentinels=tuple(range(60, 48, -1)))
CONFIGS = {
    "encoder-decoder": tiny.REDLLM,
    "decoder-only": tiny.DECLLM,
    "encoder-only": dataclasses.replace(tiny.ETTIN_ENCODER, num_encoder_layers=1),
}
CASES = [
    ("encoder-decoder", SpanCorruption(0.3, 2.0)),
    ("encoder-decoder", PrefixLM(0.25, append_eos=True)),
    ("decoder-only", SpanCorruption(0.3, 2.0)),
    ("decoder-only", SpanCorruption(0.3, 2.0, bidirectional_prefix=True)),
    ("decoder-only", PrefixLM(0.25, bidirectional_prefix=True)),
]


@functools.cache
def network(architecture):
    graph, state = tiny.split(CONFIGS[architecture])
    compiled = tiny.fast_jit(lambda state, batch: token_losses(nnx.merge(graph, state), batch, chunk=0))
    return lambda row: np.asarray(compiled(state, {name: value[None] for name, value in row.items()}))[0]


def features(objective, architecture, tokens, seed=0):
    transform = objective.transform(architecture, SPECIAL, CONFIGS[architecture].vocab_size, len(tokens))
    return transform({"tokens": tokens}, np.random.default_rng(seed))


def text(seed=0):
    return np.random.default_rng(seed).integers(3, 49, WINDOW, dtype=np.int32)


def scored(architecture, row):
    """Returns the losses of the targets that have weight."""
    side = "encoder" if architecture == "encoder-only" else "decoder"
    return network(architecture)(row)[row[f"{side}_loss_weights"] > 0]


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "objective"), CASES)
def test_the_padding_of_a_mixture_changes_no_loss(architecture, objective):
    # The second one is longer on both sides, and not drawn by this generator.
    mixture = Mixture((objective, SpanCorruption(0.4, 1.0)), (1.0, 1e-9))
    padded = features(mixture, architecture, text())
    # The mixture draws once before the objective does.
    rng = np.random.default_rng(0)
    rng.random()
    transform = objective.transform(architecture, SPECIAL, CONFIGS[architecture].vocab_size, WINDOW)
    alone = transform({"tokens": text()}, rng)
    assert all(len(padded[name]) > len(value) for name, value in alone.items())
    np.testing.assert_allclose(scored(architecture, padded), scored(architecture, alone), rtol=2e-5)


@pytest.mark.parametrize(("architecture", "objective"), CASES)
def test_no_target_sees_itself_or_what_follows(architecture, objective):
    """Another last target changes the loss of that target only."""
    row = features(objective, architecture, text())
    last = np.flatnonzero(row["decoder_loss_weights"])[-1]
    other = {name: value.copy() for name, value in row.items()}
    other["decoder_target_tokens"][last] = 5
    other["decoder_target_tokens"][last - 1] = 6
    other["decoder_input_tokens"][last] = 6
    before, after = scored(architecture, row), scored(architecture, other)
    np.testing.assert_array_equal(before[:-2], after[:-2])
    assert (before[-2:] != after[-2:]).all()


@pytest.mark.parametrize(
    ("architecture", "objective"),
    [("encoder-only", MNTP(0.3)), ("decoder-only", MNTP(0.3)), ("encoder-only", MaskedLM())],
)
def test_hidden_tokens_are_predicted_from_both_sides(architecture, objective):
    """The loss of the first hidden token depends on the last visible one; hidden tokens are not seen."""
    objective = dataclasses.replace(objective, mask_share=1.0, random_share=0.0)
    side = "encoder" if architecture == "encoder-only" else "decoder"
    row = features(objective, architecture, text())
    hidden = row[f"{side}_loss_weights"] > 0
    visible = np.flatnonzero(row[f"{side}_input_tokens"] > 2)[-1]
    other = {name: value.copy() for name, value in row.items()}
    other[f"{side}_input_tokens"][visible] = 3 + (other[f"{side}_input_tokens"][visible] == 3)
    assert scored(architecture, row)[0] != scored(architecture, other)[0]
    # Other texts under the hidden tokens are read alike.
    changed = np.where(hidden, 48 - text(), text()).astype(np.int32)
    again = features(objective, architecture, changed)
    np.testing.assert_array_equal(again[f"{side}_input_tokens"], row[f"{side}_input_tokens"])

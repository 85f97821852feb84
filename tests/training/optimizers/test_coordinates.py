"""The coordinate check over a 16-fold width, and what a parametrization does to rates, factors and initial values."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import tiny
from triarch.errors import UserError
from triarch.models import Network
from triarch.models.network import flatten
from triarch.training import coordinates
from triarch.training.config import validate
from triarch.training.optimizers import optimizer as optimizers
from triarch.training.optimizers.adafactor import Adafactor
from triarch.training.optimizers.muon import Muon
from triarch.training.optimizers.optax_chain import OptaxChain
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant
from triarch.training.optimizers.stable_adamw import StableAdamW

RATE = 2e-2


def narrow(architecture, **changes):
    """A network of width 8, of two layers a side."""
    layers = {"encoder-only": (2, 0), "decoder-only": (0, 2), "encoder-decoder": (1, 1)}[architecture]
    sizes = dict(d_model=8, d_ff=16, num_heads=1, head_dim=8)
    return tiny.model(architecture, **sizes, num_encoder_layers=layers[0], num_decoder_layers=layers[1], **changes)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", tiny.LAYERS)
def test_the_residual_stream_moves_as_far_at_any_width_under_mup_alone(tmp_path, architecture):
    store = tiny.write_store(tmp_path / "store")
    config = tiny.run_config(store, architecture, optimizer=AdamW(Constant(RATE)))
    config = dataclasses.replace(config, model=narrow(architecture))

    slopes = coordinates.slopes(list(coordinates.check(config, (1, 4, 16), steps=4)))

    stream = {key: slope for key, slope in slopes.items() if key[1] != coordinates.LOGITS}
    assert max(abs(slope) for (kind, _), slope in stream.items() if kind == "mup") < 0.25
    assert min(slope for (kind, _), slope in stream.items() if kind == "standard") > 0.4
    assert slopes["mup", coordinates.LOGITS] < 0.1 < 0.3 < slopes["standard", coordinates.LOGITS]


@pytest.mark.parametrize(
    ("optimizer", "power"),
    [
        (AdamW(Constant(RATE), weight_decay=0.1), 1.0),
        (StableAdamW(Constant(RATE), weight_decay=0.1), 1.0),
        (Adafactor(Constant(RATE)), 0.5),
        (Adafactor(Constant(RATE), parameter_scale=False), 1.0),
    ],
    ids=["adamw", "stable_adamw", "adafactor", "adafactor_unscaled"],
)
def test_rates_of_hidden_matrices_fall_with_width_and_their_decay_stays(optimizer, power):
    base = narrow("decoder-only")
    network = Network(coordinates.widened(base, 4, "mup"))
    specs = network.trained_specs
    params = jax.tree.map(lambda spec: jnp.full(spec.shape, 0.5), specs)

    def moved(specs):
        transformation = optimizers.build(optimizer, 10, specs)
        grads = jax.tree.map(lambda x: 1e-3 * jnp.ones_like(x), params)
        return flatten(transformation.update(grads, transformation.init(params), params)[0])

    own = moved(specs)
    plain = moved(jax.tree.map(lambda spec: dataclasses.replace(spec, width_ratio=1.0), specs))

    decay = -RATE * 0.1 * 0.5 if isinstance(optimizer, AdamW) else 0.0
    if isinstance(optimizer, StableAdamW):
        decay = -0.1 * 0.5  # Fully decoupled.
    for name, spec in network.specs.items():
        fixed = 0.0 if spec.kind == "vector" else decay
        divisor = 4.0**power if spec.kind == "kernel" else 1.0
        np.testing.assert_allclose(own[name], (plain[name] - fixed) / divisor + fixed, rtol=2e-5, atol=1e-7)


def test_a_base_computes_what_the_standard_parametrization_does():
    standard = narrow("encoder-decoder", kernel_init="fixed", embedding_scale="sqrt_d_model")
    base = coordinates.widened(standard, 1, "complete_p")
    # It alone has no smaller output projections in deeper networks.
    plain = dataclasses.replace(standard, kernel_init="fan_in")
    base = dataclasses.replace(base, kernel_init="fan_in")
    batch = {
        "encoder_input_tokens": jnp.arange(4, 12).reshape(2, 4),
        "decoder_input_tokens": jnp.arange(4, 10).reshape(2, 3),
    }

    def program(config):
        network = Network(config)
        return str(jax.make_jaxpr(lambda: network.merge(network.init(0))(batch))())

    assert program(base) == program(plain)


def test_factors_follow_width_head_and_depth():
    base = narrow("encoder-decoder", logits_scale="rsqrt_d_model", embedding_scale="sqrt_d_model")
    wide = dataclasses.replace(coordinates.widened(base, 4, "complete_p"), num_decoder_layers=2)
    deep = dataclasses.replace(wide, head_dim=32, num_heads=1, base_head_dim=8)

    assert wide.logits_factor == pytest.approx(8**-0.5 / 4)
    assert wide.embedding_factor == pytest.approx(8**0.5)
    assert wide.attention_factor == pytest.approx(8**-0.5)
    assert deep.attention_factor == pytest.approx(8**-0.5 / 4)
    assert (wide.residual_factor("encoder"), wide.residual_factor("decoder")) == (1.0, 0.5)
    plain = deep.in_numbers()
    assert plain.parametrization == "standard"
    assert plain.attention_factor == deep.attention_factor
    assert plain.logits_factor == deep.logits_factor


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parametrization": "mup"}, "base_d_model"),
        ({"base_d_model": 8}, "goes with parametrization = 'mup' or 'complete_p' only"),
        ({"parametrization": "complete_p", "base_d_model": 8}, "base_layers"),
        (
            {"parametrization": "mup", "base_d_model": 8, "decoder_d_model": 16, "shared_embeddings": False},
            "one d_model",
        ),
    ],
)
def test_a_base_that_makes_no_sense_is_one_line(changes, said):
    with pytest.raises(UserError, match=said):
        narrow("encoder-decoder", **changes).validate()


def test_an_optimizer_that_says_nothing_of_width_is_refused(tmp_path):
    config = tiny.run_config(tmp_path, optimizer=OptaxChain(Constant(RATE)))
    config = dataclasses.replace(config, model=coordinates.widened(config.model, 2, "mup"))

    with pytest.raises(UserError, match="OptaxChain does not say how its learning rates depend on width"):
        validate(config)
    validate(dataclasses.replace(config, optimizer=Muon(Constant(RATE))))

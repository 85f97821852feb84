"""A mixer that is no attention: a recurrence in a stack, alone and among attention layers, through every use."""

import dataclasses
import json
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from tests.models.test_cache import assert_equal, prompts_of, texts, whole
from tests.models.test_counts import actual_params
from tests.models.tiny import DECLLM, REDLLM
from triarch import registry
from triarch.errors import UserError
from triarch.fields import require
from triarch.interchange.manifest import model_config
from triarch.models import register_mixer
from triarch.models.choices import to_plain
from triarch.models.layers.mixer import Mixer
from triarch.models.layers.stack import repeating


@dataclasses.dataclass(frozen=True)
class Decay:
    """A running sum that forgets: h_t = rate h_(t-1) + x_t W, anew in each document."""

    rate: float = 0.5

    name: ClassVar[str] = "decay"
    one_way: ClassVar[bool] = True
    rope: ClassVar[None] = None

    def build(self, site):
        return DecayMixer(site, self)

    def num_params(self, shape):
        return shape.d_model**2

    def flops(self, shape, reading):
        return 2 * reading.length * shape.d_model**2

    def check(self, shape):
        require(self, "rate", 0 <= self.rate < 1, "must be from 0 up to but not 1")


class DecayMixer(Mixer):
    def __init__(self, site, spec):
        width = site.shape.d_model
        self.rate = spec.rate
        self.weight = site.residual_kernel((width, width), ("embed", None))

    def __call__(self, x, context):
        return self._run(x, self._begun(x), context.mask.query_segments)[0]

    def prefill(self, x, context, capacity):
        return self._run(x, self._begun(x), context.mask.query_segments)

    def extend(self, x, kept, context):
        return self._run(x, kept, None)

    def _begun(self, x):
        return {"state": jnp.zeros_like(x[:, 0])}

    def _run(self, x, kept, segments):
        inputs = (x @ self.weight[...].astype(x.dtype)).swapaxes(0, 1)
        goes_on = jnp.ones(x.shape[:2], bool) if segments is None else segments > 0
        if segments is not None:
            goes_on &= jnp.pad(segments[:, :-1], ((0, 0), (1, 0))) == segments

        def step(state, given):
            one, goes_on = given
            state = jnp.where(goes_on[:, None], self.rate * state, 0) + one
            return state, state

        state, outputs = jax.lax.scan(step, kept["state"], (inputs, goes_on.T))
        return outputs.swapaxes(0, 1), {"state": state}


RECURRENT = dataclasses.replace(DECLLM, mixer=Decay())
HYBRID = dataclasses.replace(DECLLM, mixer=Decay(0.8), num_decoder_layers=6, attention_layers=(2, 5))
CROSSED = dataclasses.replace(REDLLM, mixer=Decay())
CONFIGS = {"recurrent": RECURRENT, "hybrid": HYBRID, "crossed": CROSSED}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_token_at_a_time_is_the_whole_text(config):
    config.validate()
    with jax.enable_x64(True):
        cache = assert_equal(config, texts(config, (4, 7, 1)), execution=tiny.FLOAT64, bound=1e-11)
        assert_equal(
            config, texts(config, (2, 5)), ((4, 1), (2, 1)), execution=tiny.FLOAT64, unrolled=True, bound=1e-11
        )
    kept = [leaf.shape[-2:] for block in cache.layers.scanned for leaf in jax.tree.leaves(block.mixer)]
    if config is RECURRENT:
        assert kept == [(3, config.d_model)]  # Of whatever length.


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_packed_is_separate(config):
    layout = tiny.lay_out(config, [tiny.documents(config)])
    packed = tiny.logits(config, layout.batch)
    for index, document in enumerate(layout.documents):
        alone = tiny.logits(config, tiny.alone(config, document))[0]
        np.testing.assert_allclose(layout.of(packed, index), alone, rtol=0, atol=1e-5 * np.abs(alone).max())


@pytest.mark.slow
@pytest.mark.parametrize("unrolled", [False, True])
def test_beams_change_places(unrolled):
    """Rows of one prompt go on where others stood; what cross-attention keeps is theirs in common."""
    documents = [document for document in texts(CROSSED, (4, 6)) for _ in range(2)]
    batch, more = prompts_of(CROSSED, documents)
    graph, state = tiny.split(CROSSED)
    others = [1, 0, 3, 3]
    firsts = np.random.default_rng(0).integers(1, 50, (4, 1), dtype=np.int32)

    def run(state, batch, firsts, more):
        model = nnx.merge(graph, state)
        if unrolled:
            model.unroll()
        _, cache = model.prefill(batch, 16)
        _, cache = model.extend(firsts, cache)
        hidden, _ = model.extend(more, model.reorder(cache, jnp.array(others)))
        return model.unembedding().logits(hidden)

    found = np.asarray(tiny.fast_jit(run)(state, batch, firsts, more[:, 1:]))
    for row, other in enumerate(others):
        inputs = documents[row].inputs.copy()
        inputs[-more.shape[1]] = firsts[other, 0]
        wanted = whole(CROSSED, [dataclasses.replace(documents[row], inputs=inputs)])[0][-more.shape[1] + 1 :]
        np.testing.assert_allclose(found[row], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_layers_are_grouped_and_named_by_their_mixers():
    assert repeating(HYBRID.layer_specs("decoder")) == (0, 3)
    names = {"/".join(map(str, path)) for path in tiny.parameters(HYBRID)}
    assert {"decoder/scanned/0/decay/weight", "decoder/scanned/2/attention/query"} <= names
    assert not any("attention" in name for name in names if name.startswith("decoder/scanned/0"))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_parameters_are_counted(config):
    assert config.num_params() == config.num_params_active() == actual_params(config)


def test_operations_are_those_of_each_layer():
    width, length = HYBRID.d_model, 10
    alone = dataclasses.replace(HYBRID, mixer=None, attention_layers=())
    for convention, factor, pairs in (("paper", 1, 100), ("train", 3, 55)):
        attention = 2 * length * 4 * width**2 + 4 * pairs * width
        fewer = factor * 4 * (attention - 2 * length * width**2)
        assert HYBRID.flops(0, length, convention) == alone.flops(0, length, convention) - fewer


def test_a_registered_mixer_comes_back_from_json():
    register_mixer(Decay)
    try:
        plain = json.loads(json.dumps(to_plain(HYBRID)))
        assert plain["mixer"]["class"] == "Decay" and plain["mixer"]["from"]["module"] == __name__
        assert model_config(plain, "config.json") == HYBRID
    finally:
        registry.forget(__name__)
    with pytest.raises(UserError, match=r"config.json: ModelConfig.mixer needs Decay of a module: give --module="):
        model_config(plain, "config.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixer": Decay(1.0)}, "Decay.rate = 1.0 must be from 0 up to but not 1"),
        ({"attention_layers": (6,)}, r"ModelConfig.attention_layers = \(6,\) must be whole numbers from 0 to 5"),
        ({"mixer": None}, r"ModelConfig.attention_layers = \(2, 5\) has no effect without mixer"),
        ({"feed_forward_every": 2}, "ModelConfig.feed_forward_every = 2 has no effect without feed_forward"),
    ],
)
def test_what_makes_no_stack_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(HYBRID, **change).validate()

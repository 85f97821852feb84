"""A planned batch has the features of the batches that a run reads."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests.training import tiny
from triarch.objectives import CausalLM, PrefixLM, SpecialTokens, Supervised
from triarch.planning.programs import abstract_batch
from triarch.training import DataConfig

SPECIAL = SpecialTokens(pad=0, bos=1, eos=2, mask=3)
TOKENS = np.arange(4, 14, dtype=np.int32)
EXAMPLES = {
    "windows": {"tokens": TOKENS},
    "packed": {"tokens": TOKENS, "segment_ids": np.repeat([1, 2], 5)},
    "pairs": {"inputs": TOKENS[:3], "targets": TOKENS[3:6]},
    "packed_pairs": {"tokens": TOKENS, "segment_ids": np.repeat([1, 2], 5), "num_inputs": np.array([3, 3])},
}


@pytest.mark.parametrize("architecture", ["encoder-decoder", "decoder-only"])
@pytest.mark.parametrize("layout", EXAMPLES)
def test_features_of_every_layout(layout, architecture):
    text = PrefixLM() if architecture == "encoder-decoder" else CausalLM()
    objective = Supervised(6, 4) if "pairs" in layout else text
    model = tiny.model(architecture)
    config = tiny.run_config("", model=model, objective=objective, data=DataConfig(10), batch_size=3)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    planned = abstract_batch(config, NamedSharding(mesh, PartitionSpec()), packed="packed" in layout)
    read = objective.transform(architecture, SPECIAL, model.vocab_size, 10)(EXAMPLES[layout], np.random.default_rng(0))
    assert {name: (one.shape[1:], one.dtype) for name, one in planned.items()} == {
        name: (value.shape, value.dtype) for name, value in read.items()
    }
    assert all(one.shape[0] == 3 for one in planned.values())

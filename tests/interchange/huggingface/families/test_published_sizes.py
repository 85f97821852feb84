"""Every published size is, field by field and parameter by parameter, what transformers builds for it."""

from __future__ import annotations

import pytest

from triarch.cli.gin import files as gin_files
from triarch.cli.views import published
from triarch.interchange.huggingface import FAMILIES
from triarch.interchange.huggingface.expressible import differences

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

FAMILY_OF = {
    "ettin_encoder": "modernbert",
    "ettin_decoder": "modernbert-decoder",
    "llama3": "llama",
    "pythia": "gpt_neox",
    "smollm2": "llama",
    "t5_v1_1": "t5",
}
SIZES = [name for name in published.COUNTS if not name.startswith(("redllm/", "decllm/"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_transformers_builds_as_many_parameters(name):
    """On torch's meta device, which allocates nothing."""
    gin_files.parse([f"models/{name}.gin"], [])
    config = gin_files.build("ModelConfig")
    folder = name.split("/")[0]
    family = FAMILIES[FAMILY_OF.get(folder, folder)]
    assert differences(config, family) == []
    fields = {"model_type": family.model_type} | family.write(config)
    with torch.device("meta"):
        their_config = transformers.AutoConfig.for_model(**fields)
        model = getattr(transformers, family.class_name)(their_config)
    model.tie_weights()
    expected = sum(parameter.numel() for parameter in model.parameters())
    output = model.get_output_embeddings().weight
    if not config.tied_embeddings and output is model.get_input_embeddings().weight:
        # That a T5 1.1 is not tied, transformers sees only when it loads the tensors.
        expected += output.numel()
    assert config.num_params() == expected

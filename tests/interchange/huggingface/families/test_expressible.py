"""What a class of transformers can express: the published sizes of its family, and no option that it does not have."""

from __future__ import annotations

import dataclasses

import gin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import tiny
from triarch.cli.gin import files as gin_files
from triarch.interchange.huggingface.expressible import differences
from triarch.interchange.huggingface.families import FAMILIES
from triarch.interchange.huggingface.table import links
from triarch.models import ModelConfig
from triarch.models.network import specs

# Folder of gin_configs/models: the class that its networks are published in.
PUBLISHED = {
    "bart": "bart",
    "bert": "bert",
    "distilbert": "distilbert",
    "ettin_decoder": "modernbert-decoder",
    "ettin_encoder": "modernbert",
    "gemma3": "gemma3",
    "gpt2": "gpt2",
    "llama3": "llama",
    "modernbert": "modernbert",
    "mixtral": "mixtral",
    "olmo2": "olmo2",
    "olmoe": "olmoe",
    "pythia": "gpt_neox",
    "qwen3": "qwen3",
    "roberta": "roberta",
    "smollm2": "llama",
    "t5": "t5",
    "t5_v1_1": "t5",
    "t5gemma": "t5gemma",
}
# With files of triarch's own.
OWN = ("redllm", "decllm", "triarch")
SIZES = sorted(
    (path.parent.name, path.stem)
    for path in (gin_files.config_folder() / "models").glob("*/*.gin")
    if path.stem != "family" and path.parent.name in PUBLISHED
)


def published(family: str, size: str) -> ModelConfig:
    gin_files.parse([f"models/{family}/{size}.gin"], [])
    try:
        return gin_files.build("ModelConfig")
    finally:
        gin.clear_config()


def test_every_published_size_is_expressed_by_its_class():
    assert {family for family, _ in SIZES} == PUBLISHED.keys()
    for family, size in SIZES:
        config = published(family, size)
        assert differences(config, FAMILIES[PUBLISHED[family]]) == [], f"{family}/{size}"
        others = [name for name in FAMILIES if name not in (PUBLISHED[family], *OWN)]
        for other in others:
            assert differences(config, FAMILIES[other]), f"{family}/{size} as {other}"


@pytest.mark.parametrize("family", ["redllm", "decllm"])
def test_what_no_class_has(family):
    config = {"redllm": tiny.REDLLM, "decllm": tiny.DECLLM}[family]
    assert [name for name in FAMILIES if not differences(config, FAMILIES[name])] == [family, "triarch"]


# For each class: an option that it does not have, on top of the network of its family's first published size, and
# what is said of it.
FOREIGN = {
    "bert": (dict(qkv_norm=True), "qkv_norm = True (there False)"),
    "roberta": (dict(learned_position_offset=0), "learned_position_offset = 0 (there 2)"),
    "distilbert": (dict(token_types=2), "token_types = 2 (there 0)"),
    "modernbert": (dict(norm="rmsnorm"), "norm = 'rmsnorm' (there 'layernorm')"),
    "modernbert-decoder": (dict(gated_mlp=False), "gated_mlp = False (there True)"),
    "gpt2": (dict(norm_position="post"), "norm_position = 'post' (there 'pre')"),
    "llama": (dict(sliding_window=128, global_every=4), "windows = "),
    "olmo2": (dict(mlp_bias=True), "mlp_bias = True (there False)"),
    "gemma3": (dict(local_rope_base=None, rope_scaling=None, mlp_bias=True), "mlp_bias = True (there False)"),
    "mixtral": (dict(qkv_norm=True), "qkv_norm = True (there False)"),
    "olmoe": (dict(feed_forward_every=2), "feed_forward_every = 2 (there 1)"),
    "gpt_neox": (dict(gated_mlp=True), "gated_mlp = True (there False)"),
    "qwen3": (dict(qk_norm="none"), "qk_norm = 'none' (there 'per_head')"),
    "t5": (dict(attention_softcap=30.0), "attention_softcap = 30.0 (there None)"),
    "bart": (dict(token_types=2), "token_types = 2 (there 0)"),
    "t5gemma": (dict(decoder_sliding_window=99), "windows = "),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_options_in_the_way_are_named(name):
    family = next(folder for folder, published_as in PUBLISHED.items() if published_as == name)
    config = published(*next(one for one in SIZES if one[0] == family))
    options, message = FOREIGN[name]
    found = differences(dataclasses.replace(config, **options), FAMILIES[name])
    assert len(found) == 1 and found[0].startswith(message)


def rows(config: ModelConfig) -> set[tuple[str, int | None, int | None]]:
    """Returns every parameter: a stacked one once for each of its rows, and for each expert of a row."""
    found = set()
    for name, spec in specs(config).items():
        stacked = spec.axes[:1] == ("layers",)
        inner = tuple(zip(spec.axes, spec.shape, strict=True))[int(stacked) :]
        experts = range(inner[0][1]) if inner[0][0] == "experts" else [None]
        found |= {(name, row, expert) for row in (range(spec.shape[0]) if stacked else [None]) for expert in experts}
    return found


@settings(max_examples=25, deadline=None)
@given(
    size=st.sampled_from(SIZES),
    layers=st.integers(1, 9),
    more=st.integers(0, 3),
)
def test_tables_cover_every_parameter_once(size, layers, more):
    """Whatever the number of layers, and with it what repeats and what does not."""
    config = published(*size)
    fields = {
        "vocab_size": 8,
        "pad_id": 0,
        "d_model": 4,
        "d_ff": 6,
        "num_heads": 2,
        "num_kv_heads": None,
        "head_dim": 2,
    }
    fields |= {"num_encoder_layers": layers if config.num_encoder_layers else 0}
    fields |= {"num_decoder_layers": layers + more if config.num_decoder_layers else 0}
    config = dataclasses.replace(config, **fields)
    family = FAMILIES[PUBLISHED[size[0]]]
    found = links(config, family.rules(config), family.class_name)
    slots = [(slot.leaf, slot.row, slot.expert) for link in found for slot in link.slots]
    assert len(slots) == len(set(slots)) and set(slots) == rows(config)
    assert len({link.theirs for link in found}) == len(found)

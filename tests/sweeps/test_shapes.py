"""Interpolated sizes: published ones are on their own line, and every shape keeps the rules."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triarch.cli.gin import files as gin_files
from triarch.errors import UserError
from triarch.models import ModelConfig
from triarch.sweeps.shapes import Ladder

PUBLISHED = {
    "redllm": ("150m", "1b", "2b", "4b", "8b"),
    "decllm": ("150m", "1b", "2b", "4b", "8b"),
    "ettin_encoder": ("17m", "32m", "68m", "150m", "400m", "1b"),
    "llama3": ("1b", "3b", "8b"),
    "t5gemma": ("small", "base", "large"),
}
_SHAPES: dict[tuple[str, str], ModelConfig] = {}


def shape(family, size):
    if (family, size) not in _SHAPES:
        files = [gin_files.recipe_file(family, size), f"models/{family}/{size}.gin"]
        gin_files.parse(files, [])
        _SHAPES[family, size] = gin_files.build("ModelConfig")
    return _SHAPES[family, size]


def params(model):
    return model.num_params_non_embedding()


def interpolated(family, sizes, target, multiple=128, measure=params):
    ladder = Ladder((target,), sizes, d_ff_multiple=multiple)
    return ladder.shape(target, [shape(family, size) for size in sizes], measure)


@pytest.mark.parametrize(
    ("family", "size"), [(f, s) for f in ("redllm", "decllm", "ettin_encoder") for s in PUBLISHED[f]]
)
def test_a_published_size_interpolates_to_itself(family, size):
    """The ends of the line through two published shapes are these shapes; all d_ff are multiples of 64."""
    own = shape(family, size)
    sizes = PUBLISHED[family]
    others = [other for other in sizes if other != size][:1]
    assert interpolated(family, tuple(sorted((size, *others), key=sizes.index)), params(own), 64) == own


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(PUBLISHED)), st.floats(0.0, 1.0))
def test_shapes_keep_the_rules(family, place):
    sizes = PUBLISHED[family]
    if len({shape(family, size).head_dim for size in sizes}) > 1:
        return
    ends = [params(shape(family, sizes[0])), params(shape(family, sizes[-1]))]
    target = ends[0] ** (1 - place) * ends[1] ** place
    found = interpolated(family, sizes, target, 64)
    found.validate()
    low, high = shape(family, sizes[0]), shape(family, sizes[-1])
    assert found.d_model % found.head_dim == 0 and found.d_ff % 64 == 0
    assert found.num_heads % found.kv_heads == 0
    assert low.d_model <= found.d_model <= high.d_model
    # d_ff takes up what is left, to half of one of its steps.
    step = params(dataclasses.replace(found, d_ff=found.d_ff + 64)) - params(found)
    assert abs(params(found) - target) <= step / 2 * 1.001
    if family == "redllm":
        assert found.num_encoder_layers == found.num_decoder_layers
    if family == "ettin_encoder":
        assert (found.num_encoder_layers - 1) % 3 == 0


def test_families_at_the_same_flops_of_a_sequence():
    """Matched in the paper's forward FLOPs, a RedLLM has about twice the parameters of a DecLLM (arXiv 2510.26622)."""
    from triarch.sweeps.design import sequence_cost
    from triarch.sweeps.study import Corpus, Study

    study = Study("t", "q", ("redllm", "decllm"), ("R", "D"), Ladder((2e12,), ("150m", "1b", "2b"), "flops_paper"),
                  "experiments/redllm_vs_decllm/paper_run.gin", (Corpus("c"),))  # fmt: skip
    from triarch.cli.studies import run_config
    from triarch.sweeps import design

    def files_of(family, size):
        return gin_files.recipe_file(family, size), f"models/{family}/{size}.gin", study.settings

    red, dec = design.runs(study, files_of, run_config)
    for run in (red, dec):
        flops = sequence_cost(run.config, run.config.model).flops["paper"]
        assert flops == pytest.approx(2e12, rel=0.01) and run.size_error == pytest.approx(flops / 2e12 - 1)
    assert red.name == "redllm_2tf"
    assert 1.8 < params(red.config.model) / params(dec.config.model) < 2.3


def test_names():
    ladder = Ladder((1.0,), ("a", "b"))
    assert [ladder.name(x) for x in (28e3, 999_999, 1.5e6, 2.346e9, 12)] == ["28k", "1m", "1.5m", "2.35b", "12"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"targets": ()}, "Ladder.targets"),
        ({"targets": (1e6, -1.0)}, "Ladder.targets"),
        ({"targets": (1.0001e6, 1.0002e6)}, "the same to three digits"),
        ({"between": ("1b",)}, "at least two published sizes"),
        ({"measure": "parms"}, "did you mean 'params'"),
        ({"d_ff_multiple": 0}, "Ladder.d_ff_multiple"),
    ],
)
def test_bad_ladders_are_refused(values, words):
    good = {"targets": (1e6,), "between": ("150m", "1b")}
    with pytest.raises(UserError, match=words):
        Ladder(**good | values).validate()


def test_shapes_with_other_heads_do_not_mix():
    mixed = [shape("t5", "large"), shape("t5", "3b")]
    with pytest.raises(UserError, match="head_dim differs"):
        Ladder((1e9,), ("large", "3b")).shape(1e9, mixed, params)


def test_a_target_out_of_reach_is_refused():
    with pytest.raises(UserError, match="no shape"):
        interpolated("redllm", ("150m", "1b"), 1e3)

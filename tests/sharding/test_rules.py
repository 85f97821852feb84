"""From logical axes to partition specs."""

import math

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AbstractMesh, PartitionSpec

from triarch.errors import UserError
from triarch.sharding import ActivationRules, AxisRules, MeshConfig, ParameterRules, partition_spec
from triarch.sharding.constrainer import Constrainer
from triarch.sharding.mesh import AXES, make_mesh
from triarch.sharding.rules import batch_sharding, check_batch, check_split


def mesh(data=2, fsdp=2, tensor=2, sequence=1, replica=1, expert=1):
    return AbstractMesh((replica, data, fsdp, expert, sequence, tensor), AXES)


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        (("vocab", "embed"), (32, 16), ("tensor", "fsdp")),
        (("layers", "embed", "heads", "head_dim"), (3, 16, 4, 8), (None, "fsdp", "tensor", None)),
        (("layers", "embed"), (3, 16), (None, "fsdp")),
        (("embed", None), (16, 16), ("fsdp", None)),
        # 3 heads and 15 columns do not divide: replicated along those dimensions.
        (("embed", "heads", "head_dim"), (16, 3, 8), ("fsdp", None, None)),
        (("embed", "mlp"), (15, 32), (None, "tensor")),
        # A mesh axis serves one dimension only, the first.
        (("embed", "embed"), (16, 16), ("fsdp", None)),
        (("heads", "mlp"), (3, 4), (None, "tensor")),
    ],
)
def test_parameters_are_split_by_the_table(axes, shape, expected):
    assert partition_spec(axes, shape, ParameterRules(), mesh()) == PartitionSpec(*expected)


def test_a_batch_is_split_over_data_and_fsdp():
    rules = ActivationRules()
    assert partition_spec(("batch", "length", "embed"), (8, 5, 16), rules, mesh()) == PartitionSpec(
        ("data", "fsdp"), None, None
    )
    assert partition_spec(("batch",), (8,), rules, mesh(fsdp=1)) == PartitionSpec("data")
    assert partition_spec(("batch", "heads"), (8, 4), rules, mesh(1, 1, 1)) == PartitionSpec(None, None)


NAMES = [*vars(ParameterRules()), None]


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 24)), max_size=4),
    st.tuples(*[st.sampled_from([1, 2, 3, 4])] * 3),
)
def test_every_spec_is_legal(dimensions, sizes):
    rules = ParameterRules(vocab=("tensor", "fsdp"), embed=("fsdp", "data"), layers=("data",))
    shape = [size for _, size in dimensions]
    spec = partition_spec([name for name, _ in dimensions], shape, rules, mesh(*sizes))
    used = []
    for size, entry in zip(shape, spec, strict=True):
        axes = () if entry is None else (entry,) if isinstance(entry, str) else entry
        assert size % math.prod(mesh(*sizes).shape[axis] for axis in axes) == 0
        used.extend(axes)
    assert len(used) == len(set(used))


def test_programming_errors_are_told_apart():
    with pytest.raises(ValueError, match="did you mean 'embed'"):
        partition_spec(("embd",), (4,), ParameterRules(), mesh())
    with pytest.raises(ValueError, match="do not name"):
        partition_spec(("embed",), (4, 4), ParameterRules(), mesh())


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (AxisRules(ParameterRules(embed=("fdsp",))), "ParameterRules.embed .* no mesh axis 'fdsp' .*'fsdp'"),
        (AxisRules(activations=ActivationRules(batch="data")), "ActivationRules.batch = 'data': expected a tuple"),
    ],
)
def test_rules_are_checked_before_use(rules, message):
    AxisRules().validate()
    with pytest.raises(UserError, match=message):
        rules.validate()


def test_a_batch_must_divide():
    check_batch(AxisRules(), mesh(), 16, microbatches=4)
    with pytest.raises(UserError, match=r"batch_size 12 is not divisible by data=2 \* fsdp=2 \* microbatches=2 = 8"):
        check_batch(AxisRules(), mesh(), 12, microbatches=2)


def test_a_sequence_is_split_and_replicas_share_the_batch():
    spec = partition_spec(("batch", "length", "embed"), (16, 8, 4), ActivationRules(), mesh(sequence=4, replica=2))
    assert spec == PartitionSpec(("replica", "data", "fsdp"), "sequence", None)


def test_what_one_layer_is_split_by_must_divide():
    check_split(AxisRules(), mesh(tensor=4), {"heads": 12, "mlp": 64})
    with pytest.raises(UserError, match=r"tensor=8 does not divide heads = 12: choose tensor among 2, 3, 4, 6"):
        check_split(AxisRules(), mesh(tensor=8), {"heads": 12})


def test_one_device_needs_no_constraints():
    one = make_mesh(MeshConfig(), jax.devices()[:1])
    x = jax.numpy.ones((2, 3))
    assert Constrainer(AxisRules(), one)(x, ("batch", "embed")) is x
    assert batch_sharding(AxisRules(), one).spec == PartitionSpec(None)

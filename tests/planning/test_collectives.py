"""Who takes part in a collective, and what it costs, against the scaling book's formulas."""

import numpy as np
import pytest

from triarch.planning import hlo
from triarch.planning.collectives import collectives, replica_groups
from triarch.planning.topology import parse

MODULE = """HloModule m

%sum (x: f32[], y: f32[]) -> f32[] {{
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %s = f32[] add(%x, %y)
}}

ENTRY %main (a: bf16[64,1024]) -> bf16[1] {{
  %a = {operand} parameter(0)
  ROOT %c = {result} {kind}(%a), channel_id=1, replica_groups={groups}, use_global_device_ids=true
}}
"""


def one(kind, operand, result, groups, topology):
    """Returns the only collective of a program on a slice whose devices are in order of their places."""
    topology = parse(topology)
    places = np.indices(topology.shape).reshape(len(topology.shape), -1).T
    coordinates = np.concatenate([np.zeros((len(places), 1), int), places], axis=1)
    text = MODULE.format(kind=kind, operand=operand, result=result, groups=groups)
    (found,) = collectives(hlo.parse(text), topology, coordinates)
    return found


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("{{0,1},{2,3}}", ((0, 1), (2, 3))),
        ("[2,2]<=[4]", ((0, 1), (2, 3))),
        ("[2,2]<=[2,2]T(1,0)", ((0, 2), (1, 3))),
        ("mesh['a'=2,'b'=2] {'b'}", ((0, 1), (2, 3))),
        ("mesh['a'=2,'b'=2] {'a'}", ((0, 2), (1, 3))),
    ],
)
def test_groups_in_every_form(text, groups):
    module = hlo.parse(MODULE.format(kind="all-gather", operand="bf16[2]{0}", result="bf16[4]{0}", groups=text))
    assert replica_groups(module.computations["main"]["c"], 4) == groups


def test_a_gather_over_a_whole_torus():
    """V (1 - 1/X) bytes arrive over both ends of three axes; v5p's wrap from four chips on."""
    found = one("all-gather", "bf16[16,1024]{1,0}", "bf16[1024,1024]{1,0}", "[1,64]<=[64]", "v5p:4x4x4")
    assert (found.kind, found.num_bytes, found.group, found.network) == ("all-gather", 2 * 1024**2, 64, "ici")
    assert found.seconds == pytest.approx(2 * 1024**2 * 63 / 64 / (6 * 9e10))


def test_a_sum_along_one_axis_that_does_not_wrap():
    """Twice the bytes of a gather, over one link: a v5e of eight chips a side is no ring."""
    found = one("all-reduce", "f32[512]{0}", "f32[512]{0}", "[8,8]<=[64]", "v5e:8x8")
    assert found.seconds == pytest.approx(2 * 2048 * 7 / 8 / 4.5e10)


def test_a_scatter_counts_the_array_before_it_is_cut():
    found = one("reduce-scatter", "f32[1024]{0}", "f32[16]{0}", "[1,64]<=[64]", "v4:4x4x4")
    assert found.num_bytes == 4096 and found.seconds == pytest.approx(4096 * 63 / 64 / (6 * 4.5e10))


def test_what_crosses_slices_goes_over_the_slow_network():
    topology = parse("v5e:2x2", slices=2)
    coordinates = np.array([(s, x, y) for s in range(2) for x in range(2) for y in range(2)])
    text = MODULE.format(kind="all-reduce", operand="f32[1024]{0}", result="f32[1024]{0}", groups="[4,2]<=[2,4]T(1,0)")
    (found,) = collectives(hlo.parse(text), topology, coordinates)
    assert found.network == "dcn" and found.seconds >= 4096 / 3.1e9

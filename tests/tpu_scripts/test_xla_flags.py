"""The compiler takes every set of flags of xla_flags.txt."""

import importlib.util
import os
import subprocess
import sys

import pytest

from .conftest import SCRIPTS

TOPOLOGIES = {"v4": "v4:2x2x2", "v5p": "v5:2x2x2", "v5e": "v5e:2x4", "v6e": "v6e:2x4"}

# libtpu reads its flags once, when it is loaded, and ends the process at one it does not know.
COMPILE = """
import sys, jax, numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
name = sys.argv[1]
chip = "megacore" if name.startswith(("v4", "v5:")) else "default"
topology = topologies.get_topology_desc(
    platform="tpu", topology_name=name, chip_config_name=chip, chips_per_host_bounds=(2, 2, 1), num_slices=1)
layout = NamedSharding(Mesh(np.array(topology.devices), ("fsdp",)), PartitionSpec("fsdp"))
x = jax.ShapeDtypeStruct((512, 512), jax.numpy.bfloat16)
jax.jit(lambda a, b: (a @ b).sum(), in_shardings=(layout, layout)).lower(x, x).compile()
"""


def flags(generation: str, slices: int) -> str:
    script = f"source {SCRIPTS}/lib.sh; source {SCRIPTS}/slices.sh; xla_flags {generation} {slices}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout


def test_every_line_is_read_and_says_what_it_is_for():
    for line in (SCRIPTS / "xla_flags.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            generations, flag, purpose = line.split(maxsplit=2)
            assert purpose.startswith("# ") and len(purpose) > 20
            for key in generations.split(","):
                generation, _, multislice = key.partition("+")
                assert flag in flags(generation, 2).split()
                assert (flag in flags(generation, 1).split()) == (not multislice)


@pytest.mark.tpu_compiler
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
@pytest.mark.parametrize("generation", TOPOLOGIES)
def test_the_compiler_takes_the_flags(generation):
    environment = {
        **os.environ,
        "LIBTPU_INIT_ARGS": flags(generation, 2),
        "TPU_SKIP_MDS_QUERY": "1",
        "JAX_PLATFORMS": "cpu",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    command = [sys.executable, "-c", COMPILE, TOPOLOGIES[generation]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]

"""Where arrays live: the device mesh, the logical axis rules, and each host's share of a batch."""

from triarch.sharding.mesh import MeshConfig, host_rows, make_mesh
from triarch.sharding.rules import (
    ActivationRules,
    AxisRules,
    ParameterRules,
    batch_sharding,
    check_batch,
    constrainer,
    parameter_sharding,
    partition_spec,
)

__all__ = [
    "ActivationRules",
    "AxisRules",
    "MeshConfig",
    "ParameterRules",
    "batch_sharding",
    "check_batch",
    "constrainer",
    "host_rows",
    "make_mesh",
    "parameter_sharding",
    "partition_spec",
]

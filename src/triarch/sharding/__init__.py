"""Where arrays live: the device mesh, the logical axis rules, and each host's share of a batch."""

from triarch.sharding.mesh import MeshConfig, host_rows, make_mesh, platform
from triarch.sharding.rules import (
    ActivationRules,
    AxisRules,
    Constrainer,
    ParameterRules,
    batch_sharding,
    check_batch,
    check_split,
    parameter_sharding,
    partition_spec,
)

__all__ = [
    "ActivationRules",
    "AxisRules",
    "Constrainer",
    "MeshConfig",
    "ParameterRules",
    "batch_sharding",
    "check_batch",
    "check_split",
    "host_rows",
    "make_mesh",
    "parameter_sharding",
    "partition_spec",
    "platform",
]

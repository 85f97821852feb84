"""Where arrays live: the device mesh, the logical axis rules, and each host's share of a batch."""

from typing import TYPE_CHECKING

from triarch import lazy
from triarch.sharding.mesh import MeshConfig, host_rows, make_mesh, platform
from triarch.sharding.rules import (
    ActivationRules,
    AxisRules,
    ParameterRules,
    batch_sharding,
    check_batch,
    check_split,
    parameter_sharding,
    partition_spec,
)

if TYPE_CHECKING:
    from triarch.sharding.constrainer import Constrainer

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
__getattr__ = lazy.names_from(__name__, {"constrainer": ("Constrainer",)})

"""Where a loaded network's parameters and batches live."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from triarch.models.network import Specs
from triarch.models.placing import Constrain
from triarch.sharding import AxisRules, Constrainer, MeshConfig, batch_sharding, make_mesh, parameter_sharding


@dataclasses.dataclass(frozen=True)
class Placement:
    """A mesh and the rules by which arrays are split over it; one device unless told otherwise.

    Attributes:
      mesh: of devices.
      rules: which dimensions are split over which mesh axes.
    """

    mesh: Mesh
    rules: AxisRules = dataclasses.field(default_factory=AxisRules)

    @classmethod
    def one_device(cls) -> Placement:
        """Everything on this host's first device."""
        return cls(make_mesh(MeshConfig(), jax.local_devices()[:1]))

    @classmethod
    def all_devices(cls) -> Placement:
        """Parameters and batches split over all devices there are."""
        return cls(make_mesh(MeshConfig(data=1, fsdp=-1)))

    @property
    def constrain(self) -> Constrain:
        """What places activations."""
        return Constrainer(self.rules, self.mesh)

    @property
    def replicated(self) -> NamedSharding:
        """A whole copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def parameters(self, specs: Specs) -> dict[str, NamedSharding]:
        """Returns where each parameter goes."""
        return {name: parameter_sharding(spec.axes, spec.shape, self.rules, self.mesh) for name, spec in specs.items()}

    def batch(self, features: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Puts a batch, the same on every host, on the devices: split by rows where they divide evenly."""
        rows = batch_sharding(self.rules, self.mesh)
        parts = math.prod(self.mesh.shape[axis] for axis in self.rules.activations.batch)
        arrays: dict[str, jax.Array] = {}
        for name, values in features.items():
            sharding = rows if len(values) % parts == 0 else self.replicated
            arrays[name] = jax.make_array_from_callback(values.shape, sharding, values.__getitem__)
        return arrays


def host_values(array: jax.Array) -> np.ndarray:
    """Returns the whole array on this host, also where its shards lie on several."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))

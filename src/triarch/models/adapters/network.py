"""A network with adapters as a function of its parameters.

Beside the base's parameters, which have the names that they have without adapters, stand `adapter/NAME/down` and
`adapter/NAME/up` for each adapted kernel NAME. A kernel in few bits is `quantised/NAME/codes` and
`quantised/NAME/scales`.
"""

from __future__ import annotations

import dataclasses
import types
import zlib
from typing import Any

import jax
import jax.numpy as jnp

from triarch.models.adapters.kernel import AdaptedKernel
from triarch.models.adapters.lora import LoRA, is_layers_kernel
from triarch.models.adapters.quantised import Quantised, code_shapes, is_quantisable, quantise
from triarch.models.assemblies import Transformer
from triarch.models.config import ModelConfig
from triarch.models.network import Network, ParameterSpec, Specs, Tree, flatten, unflatten

ADAPTER, QUANTISED = "adapter", "quantised"
# "lora": far from the numbers of the parameters, which count up.
_STREAM = 0x6C6F7261


class AdaptedNetwork(Network):
    """A network whose base stays as it is: adapters, and the head of an objective, are trained and kept.

    Attributes:
      adapter: which kernels are adapted, and how.
      base_specs: of every parameter of the network without adapters, by name.
    """

    def __init__(self, config: ModelConfig, adapter: LoRA, *given: Any, **named: Any):
        """Makes out the network; allocates nothing.

        Args:
          config: what the network is.
          adapter: which kernels are adapted, and how.
          given: further ones of `Network`, but for `trained`.
          named: likewise.

        Raises:
          UserError: a target names no kernel.
        """
        super().__init__(config, *given, **named)
        self.adapter = adapter
        self.base_specs: Specs = self.specs
        self.adapted_names = adapter.adapted(self.base_specs)
        self._numbers = {name: number for number, name in enumerate(self.adapted_names)}
        self._coded = {
            name
            for name, spec in self.base_specs.items()
            if adapter.base != "float32" and is_layers_kernel(name, spec) and is_quantisable(spec.shape)
        }
        specs = {name: spec for name, spec in self.base_specs.items() if name not in self._coded}
        for name in self._coded:
            specs |= _code_specs(name, self.base_specs[name], adapter)
        for name in self.adapted_names:
            specs |= _adapter_specs(name, self.base_specs[name], adapter.rank)
        self.specs = types.MappingProxyType(dict(sorted(specs.items())))
        self.trained_names = frozenset(name for name in specs if name.startswith((f"{ADAPTER}/", "head/")))

    def init(self, seed: int) -> Tree:
        """Returns fresh adapters, and a base that has yet to be filled: zeros where it is held in few bits."""
        values = {name: value for name, value in flatten(super().init(seed)).items() if name not in self._coded}
        for name, spec in self.specs.items():
            if name.startswith(f"{QUANTISED}/") or (name.startswith(f"{ADAPTER}/") and name.endswith("/up")):
                values[name] = jnp.zeros(spec.shape, spec.dtype)
            elif name.startswith(f"{ADAPTER}/"):
                key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _STREAM), zlib.crc32(name.encode()))
                bound = spec.shape[-2] ** -0.5
                values[name] = jax.random.uniform(key, spec.shape, jnp.float32, -bound, bound)
        return unflatten(dict(sorted(values.items())))

    def merge(self, params: Tree) -> Transformer:
        """Returns the module with the given parameters; adapted kernels hold their base and their update apart."""
        return self._module({name: self._value(name, flatten(params)) for name in self.base_specs})

    def of_base(self, base: Tree) -> Tree:
        """Returns the parameters of a network without adapters as this one holds them."""
        values = {}
        for name, value in flatten(base).items():
            if name in self._coded:
                held = jax.jit(quantise, static_argnums=1)(value, self.adapter.base)
                values |= {f"{QUANTISED}/{name}/codes": held.codes, f"{QUANTISED}/{name}/scales": held.scales}
            else:
                values[name] = value
        return unflatten(values)

    def folded(self, params: Tree) -> Tree:
        """Returns the parameters of the network without adapters that computes the same: sums of base and update."""
        flat = flatten(params)
        values = {name: self._value(name, flat) for name in self.base_specs}
        return unflatten({n: v.sum if isinstance(v, AdaptedKernel) else v for n, v in values.items()})

    def stored(self, params: Tree) -> Tree:
        """Returns what a checkpoint keeps: the base lies elsewhere."""
        return self.trained(params)

    def under(self, config: ModelConfig) -> Network:
        """Refuses: what is loaded has its adapters folded in."""
        raise NotImplementedError

    def _value(self, name: str, flat: dict[str, Any]) -> Any:
        """Returns what a module holds under a parameter's name."""
        is_adapted = name in self._numbers
        if name not in self._coded and not is_adapted:
            return flat[name]
        down, up = (flat[f"{ADAPTER}/{name}/{part}"] if is_adapted else None for part in ("down", "up"))
        if name in self._coded:
            base: Any = Quantised(flat[f"{QUANTISED}/{name}/codes"], flat[f"{QUANTISED}/{name}/scales"])
        else:
            base = flat[name]
        return AdaptedKernel(base, down, up, scale=self.adapter.scale, number=self._numbers.get(name, 0))


def _adapter_specs(name: str, spec: ParameterSpec, rank: int) -> dict[str, ParameterSpec]:
    *stack, inputs, outputs = spec.shape
    *axes, of_inputs, of_outputs = spec.axes
    return {
        f"{ADAPTER}/{name}/down": ParameterSpec((*stack, inputs, rank), (*axes, of_inputs, None), "adapter"),
        f"{ADAPTER}/{name}/up": ParameterSpec((*stack, rank, outputs), (*axes, None, of_outputs), "adapter"),
    }


def _code_specs(name: str, spec: ParameterSpec, adapter: LoRA) -> dict[str, ParameterSpec]:
    codes, scales, dtype = code_shapes(spec.shape, adapter.base)
    held = dataclasses.replace(spec, shape=codes, dtype=dtype)
    return {
        f"{QUANTISED}/{name}/codes": held,
        f"{QUANTISED}/{name}/scales": dataclasses.replace(spec, shape=scales),
    }

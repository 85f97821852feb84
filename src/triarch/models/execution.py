"""How a network is computed: choices that leave its numbers, to rounding, as they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from triarch.errors import UserError, nearest

Constrain = Callable[[jax.Array, tuple[str | None, ...]], jax.Array]

REMAT_POLICIES: dict[str, Callable | None] = {
    "full": None,
    "save_dots": jax.checkpoint_policies.dots_saveable,
    "save_weight_dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a network is computed, never what it is.

    Attributes:
      compute_dtype: type of activations; "auto" is float32 on the CPU and bfloat16 on accelerators. Parameters,
        norms, softmax and losses are float32 throughout.
      scan_layers: loop over repeated layers (compile time independent of depth) instead of unrolling them.
      remat: what the backward pass finds saved: "none" recomputes nothing, "full" saves only each layer's input,
        "save_dots" every matrix product, "save_weight_dots" those with weights but not those of attention.
    """

    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    scan_layers: bool = True
    remat: Literal["none", "full", "save_dots", "save_weight_dots"] = "none"

    @property
    def dtype(self) -> jnp.dtype:
        """The type of activations on this machine."""
        if self.compute_dtype != "auto":
            return jnp.dtype(self.compute_dtype)
        return jnp.dtype(jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)

    def validate(self) -> None:
        """Raises UserError, naming the field, for an unknown choice."""
        for field, allowed in (
            ("compute_dtype", ("auto", "float32", "bfloat16")),
            ("remat", ("none", *REMAT_POLICIES)),
        ):
            value = getattr(self, field)
            if value not in allowed:
                raise UserError(f"Execution.{field} = {value!r}{nearest(str(value), allowed)}")

    def rematerialise(self, function: Callable) -> Callable:
        """Wraps one layer so that its activations are saved by the chosen policy."""
        if self.remat == "none":
            return function
        return jax.checkpoint(function, policy=REMAT_POLICIES[self.remat], prevent_cse=not self.scan_layers)


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """The type for sums, norms and logits of activations of `dtype`: float32, or wider where activations are."""
    return jnp.promote_types(dtype, jnp.float32)


def unconstrained(x: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
    """Leaves an activation's sharding to the compiler."""
    return x

"""The module of `Experts`: a router, and what becomes of the tokens that it sends out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from triarch.errors import UserError
from triarch.models.adapters.kernel import multiplied
from triarch.models.layers.activations import ACTIVATIONS
from triarch.models.layers.context import StackContext
from triarch.models.layers.experts import Experts
from triarch.models.layers.parts import Site
from triarch.models.layers.projection import project
from triarch.models.layers.routing import ExpertKernels, dropless, limited
from triarch.models.precision import at_least_float32


class ExpertLayer(nnx.Module):
    """Routes each token to a few experts; adds "balance_loss" and "router_z_loss" to the context's losses."""

    def __init__(self, site: Site, spec: Experts):
        if site.execution.feed_forward_parts > 1:
            parts = f"Execution.feed_forward_parts = {site.execution.feed_forward_parts}"
            raise UserError(f"{parts}: expected 1 with Experts, which are not cut into parts")
        self.spec = spec
        self.constrain = site.constrain
        self.activation = ACTIVATIONS[site.shape.activation]
        d_model, d_ff, experts = site.shape.d_model, spec.width(site.shape), spec.num_experts
        is_gated, axes = site.shape.gated_mlp, ("experts", "embed", "mlp")
        self.router = site.kernel((d_model, experts), ("embed", "experts"))
        self.gate = site.kernel((experts, d_model, d_ff), axes) if is_gated else None
        self.up = site.kernel((experts, d_model, d_ff), axes)
        self.down = site.residual_kernel((experts, d_ff, d_model), ("experts", "mlp", "embed"))
        has_shared = spec.shared_d_ff > 0
        shared = (d_model, spec.shared_d_ff)
        self.shared_gate = site.kernel(shared, axes[1:]) if has_shared and is_gated else None
        self.shared_up = site.kernel(shared, axes[1:]) if has_shared else None
        self.shared_down = site.residual_kernel(shared[::-1], ("mlp", "embed")) if has_shared else None

    def __call__(
        self, x: Float[Array, "batch length d_model"], context: StackContext
    ) -> Float[Array, "batch length d_model"]:
        wide = at_least_float32(x.dtype)
        logits = multiplied(lambda x, kernel: x @ kernel.astype(wide), x.astype(wide), self.router[...])
        shares = jax.nn.softmax(logits, axis=-1)
        weights, chosen = jax.lax.top_k(shares, self.spec.per_token)
        if context.losses is not None:
            self._add_losses(logits, shares, chosen, context)
        if self.spec.renormalised:
            weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
        room = self.spec.room(x.shape[1])
        routed = x, weights.astype(x.dtype), chosen, self._kernels, self.activation, self.constrain
        y = dropless(*routed) if room is None else limited(*routed, room, context.mask.query_segments)
        return (
            y
            if self.shared_up is None or self.shared_down is None
            else y + self._shared(x, self.shared_up, self.shared_down)
        )

    @property
    def _kernels(self) -> ExpertKernels:
        return ExpertKernels(self.up[...], None if self.gate is None else self.gate[...], self.down[...])

    def _shared(self, x: jax.Array, up: nnx.Param, down: nnx.Param) -> jax.Array:
        """Returns what the expert that all tokens pass makes of them."""
        if self.shared_gate is None:
            return project(self.activation(project(x, up[...])[0]), down[...])[0]
        gate, projected = project(x, self.shared_gate[...], up[...])
        return project(self.activation(gate) * projected, down[...])[0]

    def _add_losses(self, logits: jax.Array, shares: jax.Array, chosen: jax.Array, context: StackContext) -> None:
        """Adds the losses of this layer's router, means over the tokens that are not padding."""
        segments = context.mask.query_segments
        logits, shares = (x.reshape(-1, x.shape[-1]) for x in (logits, shares))
        chosen = chosen.reshape(-1, chosen.shape[-1])
        real = jnp.ones(len(logits), logits.dtype) if segments is None else (segments.reshape(-1) > 0)
        real = real.astype(logits.dtype) / jnp.maximum(jnp.sum(real), 1)
        often = jnp.einsum("tke,t->e", jax.nn.one_hot(chosen, self.spec.num_experts, dtype=real.dtype), real)
        balance = self.spec.num_experts * jnp.sum(often * (real @ shares))
        z = real @ jax.nn.logsumexp(logits, axis=-1) ** 2
        for name, coefficient, value in (
            ("balance_loss", self.spec.balance_loss, balance),
            ("router_z_loss", self.spec.router_z_loss, z),
        ):
            if coefficient and context.losses is not None:
                context.losses[name] = coefficient * value

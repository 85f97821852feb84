"""The module of `Mamba2`."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool

from triarch.models import parameters
from triarch.models.layers.context import StackContext
from triarch.models.layers.norms import rms_norm
from triarch.models.layers.parts import Site
from triarch.models.layers.projection import affines, project
from triarch.models.precision import at_least_float32
from triarch.models.recurrent import decayed, documents
from triarch.models.recurrent.convolution import convolve, last_inputs
from triarch.models.recurrent.mamba2 import Mamba2
from triarch.models.recurrent.recurrent_mixer import RecurrentMixer

# What a decoder keeps: "state", and the last inputs of the convolution by what they are.
Kept = dict[str, Any]

# How d_t begins, as in the published code: log-uniform in this range. And -A: uniform.
_FIRST_STEPS = 1e-3, 0.1
_FIRST_DECAYS = 1.0, 16.0


class Mamba2Mixer(RecurrentMixer):
    """Keeps a state [heads, head_dim, state_dim] and the last inputs of its convolution, whatever the length."""

    def __init__(self, site: Site, spec: Mamba2):
        self.spec = spec
        self.constrain = site.constrain
        self.norm_eps = site.shape.norm_eps
        self.heads, width = spec.heads(site.shape), spec.width(site.shape)
        d_model, shared = site.shape.d_model, spec.num_groups * spec.state_dim
        self.gate = site.kernel((d_model, width), ("embed", "heads"))
        self.value = site.kernel((d_model, width), ("embed", "heads"))
        self.key = site.kernel((d_model, shared), ("embed", None))
        self.query = site.kernel((d_model, shared), ("embed", None))
        self.step = site.kernel((d_model, self.heads), ("embed", "heads"))
        self.value_conv, self.value_conv_bias = self._convolution(site, width, "heads")
        self.key_conv, self.key_conv_bias = self._convolution(site, shared, None)
        self.query_conv, self.query_conv_bias = self._convolution(site, shared, None)
        key = site.rngs.params()
        low, high = map(math.log, _FIRST_STEPS)
        steps = jnp.exp(jax.random.uniform(key, (self.heads,), jnp.float32, low, high))
        # The inverse of softplus.
        self.step_bias = parameters.parameter(steps + jnp.log(-jnp.expm1(-steps)), ("heads",), "vector")
        decays = jax.random.uniform(site.rngs.params(), (self.heads,), jnp.float32, *_FIRST_DECAYS)
        self.log_decay = parameters.parameter(jnp.log(decays), ("heads",), "vector")
        self.skip = parameters.constant(1.0, (self.heads,), ("heads",))
        self.norm = parameters.constant(1.0, (width,), ("heads",))
        self.output = site.residual_kernel((width, d_model), ("heads", "embed"))

    def kept_axes(self, kept: Kept) -> list[tuple[str | None, ...]]:
        of = {"state": ("batch", "heads", None, None), "value": ("batch", None, "heads")}
        return [of.get(name, ("batch", None, None)) for name in sorted(kept)]

    def _convolution(self, site: Site, channels: int, axis: str | None) -> tuple[nnx.Param, nnx.Param | None]:
        width = self.spec.conv_width
        reach = 1 / math.sqrt(width)
        weights = jax.random.uniform(site.rngs.params(), (width, channels), jnp.float32, -reach, reach)
        kernel = parameters.parameter(weights, (None, axis), "table")
        return kernel, site.bias(channels, axis) if self.spec.conv_bias else None

    def _run(
        self, x: jax.Array, kept: Kept | None, continues: Bool[Array, "batch length"] | None, context: StackContext
    ) -> tuple[jax.Array, Kept]:
        kernels = self.gate, self.value, self.key, self.query, self.step
        gate, *inputs, step = affines(x, *((kernel, None) for kernel in kernels))
        numbers = documents.numbered(continues)
        later: Kept = {}
        found = []
        for name, given in zip(("value", "key", "query"), inputs, strict=True):
            kernel, bias = getattr(self, f"{name}_conv"), getattr(self, f"{name}_conv_bias")
            before = None if kept is None else kept[name]
            later[name] = last_inputs(given, self.spec.conv_width, before, numbers)
            bias = None if bias is None else bias[...]
            found.append(jax.nn.silu(convolve(given, kernel[...], bias, before, numbers)))
        value, key, query = found
        state = None if kept is None else kept["state"]
        y, later["state"] = self._recur(value, key, query, step, state, continues)
        return project(self._normed(y, gate), self.output[...])[0], later

    def _recur(
        self,
        value: jax.Array,
        key: jax.Array,
        query: jax.Array,
        step: jax.Array,
        state: decayed.State | None,
        continues: jax.Array | None,
    ) -> tuple[jax.Array, decayed.State]:
        """Returns what the heads read from their states, and the states after the last token."""
        rows, wide = value.shape[:2], at_least_float32(value.dtype)
        steps = jax.nn.softplus(step.astype(wide) + self.step_bias[...])
        steps = jnp.clip(steps, self.spec.least_step or None, self.spec.greatest_step)
        values = self.constrain(value.reshape(*rows, self.heads, -1), ("batch", "length", "heads", None))
        key, query = (shared.reshape(*rows, self.spec.num_groups, -1) for shared in (key, query))
        log_decay = -jnp.exp(self.log_decay[...].astype(wide)) * steps
        scaled = (values * steps[..., None]).astype(value.dtype)
        y, state = decayed.recur(scaled, key, query, log_decay, state, continues, self.spec.chunk_size)
        y = y + values * self.skip[...][:, None].astype(value.dtype)
        return y.reshape(*rows, -1), state

    def _normed(self, y: jax.Array, gate: jax.Array) -> jax.Array:
        """Returns the gated output, normed by groups of its channels."""
        wide = at_least_float32(y.dtype)
        gated = y.astype(wide) * jax.nn.silu(gate.astype(wide))
        grouped = gated.reshape(*gated.shape[:-1], self.spec.num_groups, -1)
        normed = rms_norm(grouped, self.norm_eps).reshape(gated.shape)
        return normed.astype(y.dtype) * self.norm[...].astype(y.dtype)

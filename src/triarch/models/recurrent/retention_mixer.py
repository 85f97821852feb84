"""The module of `Retention`."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from triarch.models.attention.positions import rotate
from triarch.models.layers.context import StackContext
from triarch.models.layers.norms import rms_norm
from triarch.models.layers.parts import Site
from triarch.models.layers.projection import affines, project
from triarch.models.precision import at_least_float32
from triarch.models.recurrent import decayed
from triarch.models.recurrent.recurrent_mixer import RecurrentMixer
from triarch.models.recurrent.retention import Retention


class RetentionMixer(RecurrentMixer):
    """Keeps a state [heads, value_dim, head_dim], whatever the length."""

    def __init__(self, site: Site, spec: Retention):
        shape = site.shape
        self.spec = spec
        self.constrain = site.constrain
        self.heads = shape.num_heads
        self.log_decays = tuple(spec.log_decays(shape))
        width, values = shape.heads_width, spec.values_width(shape)
        self.query = site.kernel((shape.d_model, width), ("embed", "heads"))
        self.key = site.kernel((shape.d_model, width), ("embed", "heads"))
        self.value = site.kernel((shape.d_model, values), ("embed", "heads"))
        self.gate = site.kernel((shape.d_model, values), ("embed", "heads"))
        self.output = site.residual_kernel((values, shape.d_model), ("heads", "embed"))

    def kept_axes(self, kept: decayed.State) -> list[tuple[str | None, ...]]:
        return [("batch", "heads", None, None)]

    def _run(
        self,
        x: jax.Array,
        kept: decayed.State | None,
        continues: Bool[Array, "batch length"] | None,
        context: StackContext,
    ) -> tuple[jax.Array, decayed.State]:
        query, key, value, gate = affines(x, *((k, None) for k in (self.query, self.key, self.value, self.gate)))
        query, key, value = (
            self.constrain(y.reshape(*x.shape[:2], self.heads, -1), ("batch", "length", "heads", None))
            for y in (query, key, value)
        )
        angles = context.angles[self.spec.rope]
        query, key = rotate(query, angles), rotate(key / math.sqrt(key.shape[-1]), angles)
        wide = at_least_float32(x.dtype)
        log_decay = jnp.broadcast_to(jnp.asarray(self.log_decays, wide), (*x.shape[:2], self.heads))
        y, state = decayed.recur(value, key, query, log_decay, kept, continues, self.spec.chunk_size)
        normed = rms_norm(y, self.spec.norm_eps).reshape(gate.shape)
        return project(jax.nn.silu(gate) * normed, self.output[...])[0], state

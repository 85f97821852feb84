"""The modules of `RwkvTimeMix` and `RwkvChannelMix`."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from triarch.models import parameters
from triarch.models.layers.context import StackContext
from triarch.models.layers.parts import Site
from triarch.models.layers.projection import project
from triarch.models.recurrent import documents
from triarch.models.recurrent.fading import average
from triarch.models.recurrent.recurrent_mixer import RecurrentMixer

# What a decoder keeps: each layer's "last" input, and of a mixer its averages so far.
Kept = dict[str, Any]


class _LooksBack(RecurrentMixer):
    """What both layers share: inputs that are mixed with those of the token before."""

    def kept_axes(self, kept: Kept) -> list[tuple[str | None, ...]]:
        return [("batch", None if name == "last" else "heads") for name in sorted(kept)]


class TimeMixer(_LooksBack):
    """The mixer of RWKV-4; parameters begin as in its published code, layer by layer."""

    def __init__(self, site: Site):
        d_model, width = site.shape.d_model, site.shape.heads_width
        depth, faded = site.depth, _shares(site)
        self.mix_key = _mix(faded)
        self.mix_value = _mix(faded + 0.3 * depth)
        self.mix_receptance = _mix(faded**0.5)
        channel = jnp.arange(width) / max(width - 1, 1)
        self.decay = parameters.parameter(-5 + 8 * channel ** (0.7 + 1.3 * depth), ("heads",), "vector")
        bonus = math.log(0.3) + 0.5 * ((jnp.arange(width) + 1) % 3 - 1)
        self.bonus = parameters.parameter(bonus.astype(jnp.float32), ("heads",), "vector")
        self.key = site.kernel((d_model, width), ("embed", "heads"))
        self.value = site.kernel((d_model, width), ("embed", "heads"))
        self.receptance = site.kernel((d_model, width), ("embed", "heads"))
        self.output = site.residual_kernel((width, d_model), ("heads", "embed"))

    def _run(
        self, x: jax.Array, kept: Kept | None, continues: Bool[Array, "batch length"] | None, context: StackContext
    ) -> tuple[jax.Array, Kept]:
        before = _token_before(x, kept, continues)
        key = project(_mixed(x, before, self.mix_key), self.key[...])[0]
        value = project(_mixed(x, before, self.mix_value), self.value[...])[0]
        receptance = project(_mixed(x, before, self.mix_receptance), self.receptance[...])[0]
        state = None if kept is None else {name: kept[name] for name in kept if name != "last"}
        averaged, state = average(key, value, self.decay[...], self.bonus[...], state, continues)
        y = project(jax.nn.sigmoid(receptance) * averaged, self.output[...])[0]
        return y, {"last": x[:, -1], **state}


class ChannelMixer(_LooksBack):
    """The feed-forward layer of RWKV-4."""

    def __init__(self, site: Site):
        d_model, d_ff = site.shape.d_model, site.shape.d_ff
        self.mix_key = _mix(_shares(site))
        self.mix_receptance = _mix(_shares(site))
        self.key = site.kernel((d_model, d_ff), ("embed", "mlp"))
        self.value = site.residual_kernel((d_ff, d_model), ("mlp", "embed"))
        self.receptance = site.kernel((d_model, d_model), ("embed", None))

    def _run(
        self, x: jax.Array, kept: Kept | None, continues: Bool[Array, "batch length"] | None, context: StackContext
    ) -> tuple[jax.Array, Kept]:
        before = _token_before(x, kept, continues)
        inner = project(_mixed(x, before, self.mix_key), self.key[...])[0]
        receptance = project(_mixed(x, before, self.mix_receptance), self.receptance[...])[0]
        y = jax.nn.sigmoid(receptance) * project(jax.nn.relu(inner) ** 2, self.value[...])[0]
        return y, {"last": x[:, -1]}


def _shares(site: Site) -> Float[Array, " d_model"]:
    """Returns with how much of its own input each channel of a layer begins: (i / d_model)^(1 - layer / layers)."""
    d_model = site.shape.d_model
    return (jnp.arange(d_model) / d_model) ** (1 - site.layer / max(site.shape.num_layers(site.side), 1))


def _mix(shares: Float[Array, " d_model"]) -> nnx.Param:
    """Makes the part of its own input that each channel of a token takes; the rest is that of the token before."""
    return parameters.parameter(shares.astype(jnp.float32), ("embed",), "vector")


def _mixed(x: jax.Array, before: jax.Array, share: nnx.Param) -> jax.Array:
    own = share[...].astype(x.dtype)
    return x * own + before * (1 - own)


def _token_before(x: jax.Array, kept: Kept | None, continues: jax.Array | None) -> jax.Array:
    """Returns the input of the token before each one, zeros where a document begins."""
    before = documents.shifted(x, 1, None if kept is None else kept["last"][:, None])
    return before if continues is None else jnp.where(continues[..., None], before, 0)

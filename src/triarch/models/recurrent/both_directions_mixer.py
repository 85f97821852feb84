"""The module of `BothDirections`."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from triarch.models.attention.masks import Mask
from triarch.models.layers.context import StackContext
from triarch.models.layers.mixer import Mixer
from triarch.models.layers.parts import Site
from triarch.models.recurrent.both_directions import BothDirections


class BothDirectionsMixer(Mixer):
    """The sum of a mixer and of one that reads the row, and so each of its documents, from the right."""

    def __init__(self, site: Site, spec: BothDirections):
        self.forwards = spec.mixer.build(site)
        self.backwards = spec.mixer.build(site)

    def __call__(
        self, x: Float[Array, "batch length d_model"], context: StackContext
    ) -> Float[Array, "batch length d_model"]:
        segments = context.mask.query_segments
        given = dataclasses.replace(context, mask=Mask(segments, segments, causal=True))
        turned = None if segments is None else _turned(segments)
        angles = {rope: (_turned(cos), _turned(sin)) for rope, (cos, sin) in context.angles.items()}
        reverse = dataclasses.replace(context, mask=Mask(turned, turned, causal=True), angles=angles)
        return self.forwards(x, given) + _turned(self.backwards(_turned(x), reverse))


def _turned(x: jax.Array) -> jax.Array:
    """Returns an array [batch, length, ...] with each row's columns from last to first."""
    return jnp.flip(x, axis=1)

"""Adafactor with the semantics of T5X (Shazeer and Stern, arXiv 1804.04235)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from triarch import lazy
from triarch.errors import UserError
from triarch.training.per_tensor import Statistics, per_tensor, rms
from triarch.training.schedules import Schedule

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    import optax
else:
    jax, jnp, optax = lazy.module("jax"), lazy.module("jax.numpy"), lazy.module("optax")


@dataclasses.dataclass(frozen=True)
class Adafactor:
    """Adafactor without momentum and weight decay, as T5X runs it by default.

    With t the number of this update from 1 on, for each tensor:

        beta = 1 - t ** -decay
        v = beta * v + (1 - beta) * (g ** 2 + epsilon)
        u = g / sqrt(v)                         (v from its row and column means if factored)
        u = u / max(1, RMS(u) / clipping_threshold)
        p = p - learning_rate * max(min_parameter_scale, RMS(p)) * u

    RedLLM and DecLLM were trained so, unfactored (arXiv 2510.26622).

    Attributes:
      learning_rate: the schedule.
      decay: exponent of the second moment's decay.
      factored: keep row and column means instead of v for tensors with two dimensions of `min_dim_to_factor`.
      min_dim_to_factor: the smaller of a tensor's two largest dimensions must reach it.
      parameter_scale: multiply the step by the tensor's RMS.
      min_parameter_scale: lower bound of that factor.
      clipping_threshold: on the RMS of a tensor's update; None for no clipping.
      epsilon: added to squared gradients.
      max_grad_norm: global norm to which gradients are clipped first; None for no clipping.
    """

    learning_rate: Schedule
    decay: float = 0.8
    factored: bool = False
    min_dim_to_factor: int = 128
    parameter_scale: bool = True
    min_parameter_scale: float = 1e-3
    clipping_threshold: float | None = 1.0
    epsilon: float = 1e-30
    max_grad_norm: float | None = 1.0

    @property
    def numbers_per_parameter(self) -> int | None:
        """Numbers kept for each parameter: its second moment; None if factored, where it depends on shapes."""
        return None if self.factored else 1

    def validate(self) -> None:
        """Raises UserError, naming the field, for a value out of range."""
        if not 0 < self.decay <= 1:
            raise UserError(f"Adafactor.decay = {self.decay!r}: expected a number above 0 and up to 1")
        if self.clipping_threshold is not None and self.clipping_threshold <= 0:
            raise UserError(f"Adafactor.clipping_threshold = {self.clipping_threshold!r}: expected a positive number")

    def transformation(self, learning_rate: Callable[[jax.Array], jax.Array]) -> optax.GradientTransformation:
        """Returns the transformation, without global clipping, for a rate as a function of updates made."""

        def init(param: jax.Array) -> Statistics:
            axes = factored_axes(param.shape, self.min_dim_to_factor) if self.factored else None
            if axes is None:
                return {"v": jnp.zeros_like(param)}
            row_axis, column_axis = axes
            return {
                "v_row": jnp.zeros(np.delete(param.shape, column_axis), param.dtype),
                "v_column": jnp.zeros(np.delete(param.shape, row_axis), param.dtype),
            }

        def update(
            grad: jax.Array, statistics: Statistics, param: jax.Array, count: jax.Array
        ) -> tuple[jax.Array, Statistics]:
            beta = 1.0 - (count + 1.0) ** -self.decay
            squared = jnp.square(grad) + self.epsilon
            if "v" in statistics:
                new = {"v": beta * statistics["v"] + (1.0 - beta) * squared}
                direction = grad * jax.lax.rsqrt(new["v"])
            else:
                axes = factored_axes(param.shape, self.min_dim_to_factor)
                new, scale = _factored(squared, statistics, axes, beta)
                direction = grad * scale
            if self.clipping_threshold is not None:
                direction = direction / jnp.maximum(1.0, rms(direction) / self.clipping_threshold)
            rate = learning_rate(count)
            if self.parameter_scale:
                rate = rate * jnp.maximum(self.min_parameter_scale, rms(param))
            return -rate * direction, new

        return per_tensor(init, update)


def factored_axes(shape: tuple[int, ...], min_dim: int) -> tuple[int, int] | None:
    """Returns the axes of rows and columns, a tensor's largest two with the larger one last, or None if too small."""
    if len(shape) < 2:
        return None
    order = np.argsort(shape, kind="stable")
    row_axis, column_axis = int(order[-2]), int(order[-1])
    return None if shape[row_axis] < min_dim else (row_axis, column_axis)


def _factored(
    squared: jax.Array, statistics: Statistics, axes: tuple[int, int], beta: jax.Array
) -> tuple[Statistics, jax.Array]:
    """Returns new row and column means and 1 / sqrt(v), v being their outer product over the mean of the rows."""
    row_axis, column_axis = axes
    row = beta * statistics["v_row"] + (1.0 - beta) * jnp.mean(squared, axis=column_axis)
    column = beta * statistics["v_column"] + (1.0 - beta) * jnp.mean(squared, axis=row_axis)
    row_axis_left = row_axis - (row_axis > column_axis)
    row_factor = jax.lax.rsqrt(row / jnp.mean(row, axis=row_axis_left, keepdims=True))
    scale = jnp.expand_dims(row_factor, column_axis) * jnp.expand_dims(jax.lax.rsqrt(column), row_axis)
    return {"v_row": row, "v_column": column}, scale

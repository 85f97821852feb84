"""Adafactor with the semantics of T5X (Shazeer and Stern, arXiv 1804.04235)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from triarch import lazy
from triarch.fields import Limits, Positive, check
from triarch.training.optimizers.per_layer import Statistics, per_tensor
from triarch.training.optimizers.schedules import Schedule

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    import optax

    from triarch.models.network import ParameterSpec, Tree
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
    decay: Annotated[float, Limits(above=0, most=1)] = 0.8
    factored: bool = False
    min_dim_to_factor: int = 128
    parameter_scale: bool = True
    min_parameter_scale: float = 1e-3
    clipping_threshold: Positive | None = 1.0
    epsilon: float = 1e-30
    max_grad_norm: Positive | None = 1.0

    @property
    def width_exponent(self) -> float:
        """As `Optimizer` has it; a matrix's RMS, by which steps are multiplied, falls with the root of its inputs."""
        return 0.5 if self.parameter_scale else 1.0

    @property
    def numbers_per_parameter(self) -> int | None:
        """Numbers kept for each parameter: its second moment; None if factored, where it depends on shapes."""
        return None if self.factored else 1

    def validate(self) -> None:
        """Raises UserError, naming the field, for a value out of range."""
        check(self)

    def transformation(
        self, learning_rate: Callable[[jax.Array], jax.Array], specs: Tree
    ) -> optax.GradientTransformation:
        """Returns the transformation, as `Optimizer` has it."""
        scaled = optax.scale_by_factored_rms(
            self.factored, self.decay, min_dim_size_to_factor=self.min_dim_to_factor, epsilon=self.epsilon
        )
        steps = []
        if self.clipping_threshold is not None:
            steps.append(optax.clip_by_block_rms(self.clipping_threshold))
        if self.parameter_scale:
            steps.append(optax.scale_by_param_block_rms(self.min_parameter_scale))
        limited = optax.chain(*steps) if steps else optax.identity()

        def init(param: jax.Array) -> Statistics:
            return _kept(scaled.init(param), param)

        def update(
            grad: jax.Array, statistics: Statistics, param: jax.Array, count: jax.Array, spec: ParameterSpec
        ) -> tuple[jax.Array, Statistics]:
            step, new = scaled.update(grad, _whole(statistics, count), param)
            step, _ = limited.update(step, limited.init(param), param)
            return -learning_rate(count) * step, _kept(new, param)

        return per_tensor(init, update, specs)


def _kept(state: optax.FactoredState, param: jax.Array) -> Statistics:
    """Returns what a step needs of optax's state of one tensor: no count, which all share, and no empty arrays."""
    is_factored = state.v.shape != param.shape
    return {"v_row": state.v_row, "v_column": state.v_col} if is_factored else {"v": state.v}


def _whole(statistics: Statistics, count: jax.Array) -> optax.FactoredState:
    """Undoes `_kept`."""
    empty = jnp.zeros((1,))
    row, column = statistics.get("v_row", empty), statistics.get("v_column", empty)
    return optax.FactoredState(count, row, column, statistics.get("v", empty))

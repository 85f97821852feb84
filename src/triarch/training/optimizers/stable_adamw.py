"""StableAdamW: AdamW with Adafactor's update clipping (Wortsman et al., arXiv 2304.13013), as Ettin was trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from triarch import lazy
from triarch.fields import BelowOne, NotNegative, Positive, check
from triarch.training.optimizers.per_layer import Statistics, per_tensor
from triarch.training.optimizers.schedules import Schedule

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    import optax

    from triarch.models.network import ParameterSpec, Tree
else:
    jnp = lazy.module("jax.numpy")


@dataclasses.dataclass(frozen=True)
class StableAdamW:
    """AdamW whose step is divided, tensor by tensor, by how far the gradient outgrows its second moment.

    With t the number of this update from 1 on, for each tensor (the formulation of the optimi library):

        b1 = beta1 (1 - beta1 ** (t - 1)) / (1 - beta1 ** t), likewise b2      (debiased)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g ** 2
        r = learning_rate / max(1, RMS(g / sqrt(max(v, epsilon ** 2))))
        p = p * (1 - decay) - r * m / (sqrt(v) + epsilon)

    where decay is r / peak learning rate * weight_decay if fully decoupled, else r * weight_decay.

    Attributes:
      learning_rate: the schedule.
      beta1: decay of the first moment.
      beta2: decay of the second moment.
      epsilon: added to the root of the second moment.
      weight_decay: on matrices only; with `decoupled_decay` it is what one step takes off at the peak rate.
      decoupled_decay: scale the decay by the schedule's shape but not by its height (Ettin: yes).
      max_grad_norm: global norm to which gradients are clipped first; None for no clipping (Ettin).
    """

    learning_rate: Schedule
    beta1: BelowOne = 0.9
    beta2: BelowOne = 0.98
    epsilon: NotNegative = 1e-6
    weight_decay: NotNegative = 1e-5
    decoupled_decay: bool = True
    max_grad_norm: Positive | None = None

    width_exponent: ClassVar[float] = 1.0

    @property
    def numbers_per_parameter(self) -> int:
        """Numbers kept for each parameter: two moments."""
        return 2

    def validate(self) -> None:
        """Raises UserError, naming the field, for a value out of range."""
        check(self)

    def transformation(
        self, learning_rate: Callable[[jax.Array], jax.Array], specs: Tree
    ) -> optax.GradientTransformation:
        """Returns the transformation, as `Optimizer` has it."""

        def init(param: jax.Array) -> Statistics:
            return {"m": jnp.zeros_like(param), "v": jnp.zeros_like(param)}

        def update(
            grad: jax.Array, statistics: Statistics, param: jax.Array, count: jax.Array, spec: ParameterSpec
        ) -> tuple[jax.Array, Statistics]:
            new1, new2 = (_new_weight(beta, count.astype(jnp.float32) + 1.0) for beta in (self.beta1, self.beta2))
            m = statistics["m"] + new1 * (grad - statistics["m"])
            v = statistics["v"] + new2 * (jnp.square(grad) - statistics["v"])
            growth = jnp.sqrt(jnp.mean(jnp.square(grad) / jnp.maximum(v, self.epsilon**2)))
            rate = learning_rate(count) / jnp.maximum(1.0, growth)
            step = -rate * m / (jnp.sqrt(v) + self.epsilon)
            if self.weight_decay and spec.kind != "vector":
                height = self.learning_rate.peak_rate if self.decoupled_decay else 1.0
                step = step - rate / height * self.weight_decay * param
            return step, {"m": m, "v": v}

        return per_tensor(init, update, specs)


def _new_weight(beta: float, t: jax.Array) -> jax.Array:
    """Returns 1 - debiased beta = (1 - beta) / (1 - beta ** t), the weight of what is new in update t."""
    return (1.0 - beta) / (1.0 - beta**t)

"""Optimizers as values of a config, and what is common to all of them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from triarch import lazy, registry
from triarch.errors import UserError
from triarch.fields import BelowOne, NotNegative, Positive, check
from triarch.training.optimizers.adafactor import Adafactor
from triarch.training.optimizers.muon import Muon
from triarch.training.optimizers.optax_chain import OptaxChain
from triarch.training.optimizers.per_layer import decayed
from triarch.training.optimizers.schedules import Schedule
from triarch.training.optimizers.stable_adamw import StableAdamW
from triarch.training.optimizers.width import by_width

if TYPE_CHECKING:
    import jax
    import optax

    from triarch.models.network import Tree
else:
    optax = lazy.module("optax")


class Optimizer(Protocol):
    """A frozen dataclass that describes an optimizer, such as `AdamW`.

    One that also has a number `width_exponent` trains networks of other parametrizations than "standard": the learning
    rate of matrices whose inputs are m times as many as their base's is divided by m to that power.
    """

    @property
    def learning_rate(self) -> Schedule: ...

    @property
    def max_grad_norm(self) -> float | None: ...

    def validate(self) -> None:
        """Raises UserError, naming the field, for a value out of range."""
        ...

    def transformation(
        self, learning_rate: Callable[[jax.Array], jax.Array], specs: Tree
    ) -> optax.GradientTransformation:
        """Returns the transformation, without global clipping.

        Args:
          learning_rate: as a function of updates made.
          specs: what each parameter is (`models.network.ParameterSpec`), as a tree like the parameters.
        """
        ...


@dataclasses.dataclass(frozen=True)
class AdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101): p = p - rate * (m / (sqrt(v) + epsilon) + weight_decay * p).

    Attributes:
      learning_rate: the schedule.
      beta1: decay of the first moment.
      beta2: decay of the second moment.
      epsilon: added to the root of the second moment.
      weight_decay: on matrices only, not on norms and biases.
      max_grad_norm: global norm to which gradients are clipped first; None for no clipping.
    """

    learning_rate: Schedule
    beta1: BelowOne = 0.9
    beta2: BelowOne = 0.95
    epsilon: NotNegative = 1e-8
    weight_decay: NotNegative = 0.1
    max_grad_norm: Positive | None = 1.0

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
        return optax.adamw(
            learning_rate, self.beta1, self.beta2, self.epsilon, weight_decay=self.weight_decay, mask=decayed(specs)
        )


OPTIMIZERS: dict[str, type] = {cls.__name__: cls for cls in (AdamW, StableAdamW, Adafactor, Muon, OptaxChain)}


def register_optimizer(cls: type) -> type:
    """Makes an optimizer of one's own known to gin files and runs; a decorator, returns the class.

    Args:
      cls: a frozen dataclass with the members of `Optimizer`.

    Raises:
      UserError: it lacks one, its name is taken, or `transformation` takes other arguments.
    """
    registry.register(cls, "optimizer", Optimizer, OPTIMIZERS)
    try:
        inspect.signature(cast(Any, cls).transformation).bind(None, None, None)
    except TypeError:
        where = f"{cls.__module__}.{cls.__name__}.transformation"
        raise UserError(f"{where}: expected the arguments (self, learning_rate, specs)") from None
    return cls


def build(optimizer: Optimizer, total_steps: int, specs: Tree) -> optax.GradientTransformation:
    """Returns the whole transformation for a run of `total_steps`: global clipping, then the optimizer.

    It is one of parameters of `specs`, a tree like them.
    """
    return at_rate(optimizer, lambda count: optimizer.learning_rate(count, total_steps), specs)


def at_rate(
    optimizer: Optimizer, learning_rate: Callable[[jax.Array], jax.Array], specs: Tree
) -> optax.GradientTransformation:
    """Returns the same for a rate, as a function of updates made, that need not be the optimizer's own."""
    norm = optimizer.max_grad_norm
    # In two parts also without clipping: the state keeps its shape when a run goes on with or without it.
    clip = optax.identity() if norm is None else optax.clip_by_global_norm(norm)
    return optax.chain(clip, by_width(optimizer, learning_rate, specs))


def validate(optimizer: Optimizer, total_steps: int) -> None:
    """Checks an optimizer and its schedule.

    Raises:
      UserError: naming the field that is out of range.
    """
    optimizer.validate()
    if optimizer.max_grad_norm is not None and optimizer.max_grad_norm <= 0:
        kind = type(optimizer).__name__
        raise UserError(f"{kind}.max_grad_norm = {optimizer.max_grad_norm!r}: expected a positive number, or None")
    optimizer.learning_rate.validate(total_steps)

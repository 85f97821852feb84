"""Learning rates by width: what a network's parametrization ("mup") asks of its optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from triarch import lazy
from triarch.errors import UserError
from triarch.training.optimizers.per_layer import only

if TYPE_CHECKING:
    import jax
    import optax

    from triarch.models.network import Tree
    from triarch.training.optimizers.optimizer import Optimizer
else:
    jax, optax = lazy.module("jax"), lazy.module("optax")


def by_width(
    optimizer: Optimizer, learning_rate: Callable[[jax.Array], jax.Array], specs: Tree
) -> optax.GradientTransformation:
    """Returns an optimizer's transformation, with lower rates for matrices of more inputs than in their base.

    A matrix of m times as many has learning_rate / m ** width_exponent, and weight decay times that divisor, so that
    what a step takes off stays (arXiv 2203.03466, table 8 and appendix B.3). Where no m is other than 1, as in a
    network in the standard parametrization, it is the optimizer's own.

    Args:
      optimizer: the optimizer.
      learning_rate: as a function of updates made.
      specs: of the parameters, as a tree like them.

    Raises:
      UserError: the optimizer does not say how its rates depend on width.
    """
    ratios = jax.tree.map(lambda spec: spec.width_ratio, specs)
    found = sorted(set(jax.tree.leaves(ratios)))
    if all(ratio == 1.0 for ratio in found):
        return optimizer.transformation(learning_rate, specs)
    exponent = width_exponent(optimizer)

    def at(ratio: float) -> optax.GradientTransformation:
        divisor = ratio**exponent
        own: Any = optimizer
        if getattr(own, "weight_decay", 0.0):
            own = dataclasses.replace(own, weight_decay=own.weight_decay * divisor)
        mine = only(specs, jax.tree.map(lambda other: other == ratio, ratios))
        return own.transformation(lambda count: learning_rate(count) / divisor, mine)

    # Named in checkpoints: no numbers with points.
    names = {ratio: f"width_{index}" for index, ratio in enumerate(found)}
    return optax.partition({names[ratio]: at(ratio) for ratio in found}, jax.tree.map(names.get, ratios))


def width_exponent(optimizer: Optimizer) -> float:
    """Returns the power of width by which an optimizer's rates fall.

    Raises:
      UserError: it does not say.
    """
    exponent = getattr(optimizer, "width_exponent", None)
    if exponent is None:
        raise UserError(
            f"RunConfig.optimizer: {type(optimizer).__name__} does not say how its learning rates depend on width "
            "(width_exponent), which a network with ModelConfig.parametrization other than 'standard' needs: AdamW, "
            "StableAdamW, Adafactor and Muon do"
        )
    return exponent

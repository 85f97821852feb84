"""Muon: momentum made orthogonal, for the kernels; AdamW for all other parameters (Jordan et al., 2024)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from triarch import lazy
from triarch.fields import BelowOne, Limits, NotNegative, Positive, check
from triarch.training.optimizers.per_layer import decayed, only
from triarch.training.optimizers.schedules import Schedule

if TYPE_CHECKING:
    import jax
    import optax
    import optax.contrib

    from triarch.models.network import ParameterSpec, Tree
else:
    jax, optax = lazy.module("jax"), lazy.module("optax", "contrib")


@dataclasses.dataclass(frozen=True)
class Muon:
    """Muon (https://kellerjordan.github.io/posts/muon) on kernels, layer by layer, and AdamW on the rest.

    For a kernel [in, out], M being the momentum of its gradients and orthogonal(M) some U V^T of M = U S V^T, found by
    Newton-Schulz iterations:

        p = p - learning_rate * (scale * orthogonal(M) + weight_decay * p)

    where scale is update_rms * sqrt(max(in, out)), by which updates have AdamW's size (arXiv 2502.16982), or
    sqrt(max(1, out / in)). Embeddings, biases and norms are AdamW's.

    Attributes:
      learning_rate: the schedule.
      momentum: decay of the momentum.
      nesterov: whether to look ahead by this step's gradient.
      iterations: of Newton-Schulz.
      update_rms: the root mean square of updates of a kernel; None for sqrt(max(1, out / in)).
      adam_rate: AdamW's learning rate as a share of the schedule's.
      beta1: decay of AdamW's first moment.
      beta2: decay of AdamW's second moment.
      epsilon: added to the root of the second moment, and to the norm by which Newton-Schulz begins.
      weight_decay: on kernels and tables, not on norms and biases.
      max_grad_norm: global norm to which gradients are clipped first; None for no clipping.
    """

    learning_rate: Schedule
    momentum: BelowOne = 0.95
    nesterov: bool = True
    iterations: Annotated[int, Limits(least=1, most=100)] = 5
    update_rms: Positive | None = 0.2
    adam_rate: NotNegative = 1.0
    beta1: BelowOne = 0.9
    beta2: BelowOne = 0.95
    epsilon: NotNegative = 1e-8
    weight_decay: NotNegative = 0.1
    max_grad_norm: Positive | None = 1.0

    @property
    def width_exponent(self) -> float:
        """As `Optimizer` has it; updates of size sqrt(max(1, out / in)) need no other rate in a wider network."""
        return 0.0 if self.update_rms is None else 1.0

    def validate(self) -> None:
        """Raises UserError, naming the field, for a value out of range."""
        check(self)

    def transformation(
        self, learning_rate: Callable[[jax.Array], jax.Array], specs: Tree
    ) -> optax.GradientTransformation:
        """Returns the transformation, as `Optimizer` has it."""
        muon = optax.contrib.muon(
            learning_rate,
            ns_steps=self.iterations,
            beta=self.momentum,
            eps=self.epsilon,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
            consistent_rms=self.update_rms,
            muon_weight_dimension_numbers=jax.tree.map(_dimensions, specs),
        )
        adam = optax.adamw(
            lambda count: self.adam_rate * learning_rate(count),
            self.beta1,
            self.beta2,
            self.epsilon,
            weight_decay=self.weight_decay,
            mask=decayed(only(specs, jax.tree.map(lambda spec: spec.kind != "kernel", specs))),
        )
        labels = jax.tree.map(lambda spec: "muon" if spec.kind == "kernel" else "adam", specs)
        return optax.partition({"muon": muon, "adam": adam}, labels)


def _dimensions(spec: ParameterSpec) -> optax.contrib.MuonDimensionNumbers | optax.MaskedNode:
    """Returns which axes of a kernel are a matrix's, the last two; those before are layers or experts."""
    is_kernel = spec.kind == "kernel"
    return optax.contrib.MuonDimensionNumbers(-2, -1) if is_kernel else optax.MaskedNode()

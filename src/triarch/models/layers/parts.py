"""The parts of a layer: what a mixer or a feed-forward layer is, as a value of the config that builds itself.

A part is a frozen dataclass with the numbers that are its own; what it shares with the rest of the network it reads
from the `Shape` that it is given. It owns its facts: its module, its parameters, its operations, its checks.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from triarch import lazy
from triarch.models.attention.rope import Rope
from triarch.models.shape import Shape, Side

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array, Float, Int

    from triarch.models import parameters
    from triarch.models.execution import Execution
    from triarch.models.layers.mixer import Mixer
    from triarch.models.placing import Constrain
else:
    parameters = lazy.module("triarch.models.parameters")

Convention = Literal["paper", "train"]


@dataclasses.dataclass(frozen=True)
class Site:
    """Where a part is built, and how its parameters begin.

    Attributes:
      shape: what it shares with the rest of the network.
      side: whose stack it is in.
      execution: how it is computed.
      constrain: places activations on the mesh.
      rngs: source of initial values.
      layer: its number within the stack.
    """

    shape: Shape
    side: Side
    execution: Execution
    constrain: Constrain
    rngs: nnx.Rngs
    layer: int | Int[Array, ""] = 0

    @property
    def depth(self) -> float | Float[Array, ""]:
        """How deep in its stack the layer is, from 0 to 1."""
        return self.layer / max(self.shape.num_layers(self.side) - 1, 1)

    def kernel(self, shape: tuple[int, ...], axes: tuple[str | None, ...]) -> nnx.Param:
        """Returns a matrix [..., inputs, outputs]."""
        return self._kernel(shape, axes, 1.0)

    def residual_kernel(self, shape: tuple[int, ...], axes: tuple[str | None, ...]) -> nnx.Param:
        """Returns a matrix back into the residual stream, smaller under "fixed" the more layers there are.

        Not under "complete_p", which makes what sublayers add smaller instead.
        """
        is_smaller = self.shape.kernel_init == "fixed" and self.shape.parametrization != "complete_p"
        return self._kernel(shape, axes, math.sqrt(2 * self.shape.num_layers(self.side)) if is_smaller else 1.0)

    def bias(self, size: int, axis: str | None) -> nnx.Param:
        """Returns a vector of zeros."""
        return parameters.constant(0.0, (size,), (axis,))

    def _kernel(self, shape: tuple[int, ...], axes: tuple[str | None, ...], divisor: float) -> nnx.Param:
        std = parameters.kernel_std(self.shape, shape[-2]) / divisor
        return parameters.normal(self.rngs, shape, std, axes, width_ratio=self.shape.width_ratio)


@dataclasses.dataclass(frozen=True)
class Reading:
    """The reading of one sequence, for counting operations; see `ModelConfig.flops`.

    Attributes:
      length: tokens that the layer's stack reads.
      memory_length: tokens of the encoder's output.
      causal: whether a token sees only those before it.
      convention: "paper" counts every pair of tokens, "train" those that see each other.
    """

    length: int
    memory_length: int
    causal: bool
    convention: Convention


class Part(Protocol):
    """What mixers and feed-forward layers have in common."""

    def num_params(self, shape: Shape) -> int:
        """Returns the number of parameters."""
        ...

    def flops(self, shape: Shape, reading: Reading) -> float:
        """Returns operations of a forward pass over one sequence: 2 per multiply-add, matrix products only."""
        ...

    def check(self, shape: Shape) -> None:
        """Raises UserError, naming the field, for values that make no part."""
        ...


class MixerPart(Part, Protocol):
    """How the tokens of a layer see each other, as a value.

    Attributes:
      name: of the module within its layer, which names its parameters.
      one_way: whether a token sees those before it only; an encoder then has two, one of which reads backwards.
      rope: rotation whose angles the context is to hold; None: it needs none.
    """

    one_way: ClassVar[bool]

    @property
    def name(self) -> str: ...

    @property
    def rope(self) -> Rope | None: ...

    def build(self, site: Site) -> Mixer:
        """Returns the module, with fresh parameters."""
        ...


class FeedForwardPart(Part, Protocol):
    """What a layer does with each token by itself, as a value."""

    def build(self, site: Site) -> nnx.Module:
        """Returns the module, with fresh parameters; it is called with x [batch, length, d_model] and the context.

        One that looks at tokens before, too, is a `Mixer`: it then keeps of them what it needs.
        """
        ...

    def num_params_active(self, shape: Shape) -> int:
        """Returns how many of the parameters one token makes use of."""
        ...

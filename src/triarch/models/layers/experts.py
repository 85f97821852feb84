"""Experts: several feed-forward layers, of which a router sends each token to a few (arXiv 1701.06538, 2401.04088)."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from triarch import lazy
from triarch.fields import Count, NotNegative, Positive, Size, check, require
from triarch.models.layers.dense import num_weights
from triarch.models.layers.parts import Reading, Site
from triarch.models.shape import Shape

if TYPE_CHECKING:
    from triarch.models.layers import expert_layer
else:
    expert_layer = lazy.module("triarch.models.layers.expert_layer")


@dataclasses.dataclass(frozen=True)
class Experts:
    """Feed-forward layers that share out the tokens.

    None is dropped, unless there is a capacity: then an expert takes the first tokens of a row that choose it, up to
    so many, and the others pass the layer by (Switch Transformer, arXiv 2101.03961). Texts packed into a row share
    its room, padding takes none. A token's router logits become weights by softmax over all experts; its output is the
    weighted sum of those of its experts. Activation and gating are the config's.

    Attributes:
      num_experts: how many there are.
      per_token: how many each token is sent to: those of the highest weights.
      d_ff: inner width of one expert; None means that of the config.
      renormalised: whether the weights of the chosen sum to one, which is softmax over their logits alone (Mixtral; not
        OLMoE).
      capacity: tokens of a row that an expert takes at most; None for all.
      capacity_factor: the same as a multiple of its even share, length * per_token / num_experts, rounded up. In
        decoding, where tokens come one by one, none is then dropped.
      shared_d_ff: inner width of one more expert that every token passes (DeepSeek-MoE); 0 for none.
      balance_loss: coefficient of the loss that evens out how often experts are chosen (arXiv 2101.03961, equation 4);
        mean over layers, taken of the tokens of each microbatch.
      router_z_loss: coefficient of the mean square of log-sum-exp of router logits (arXiv 2202.08906, equation 5).
    """

    num_experts: Size
    per_token: Size
    d_ff: Size | None = None
    renormalised: bool = True
    capacity: Size | None = None
    capacity_factor: Positive | None = None
    shared_d_ff: Count = 0
    balance_loss: NotNegative = 0.01
    router_z_loss: NotNegative = 0.0

    def build(self, site: Site) -> expert_layer.ExpertLayer:
        return expert_layer.ExpertLayer(site, self)

    def num_params(self, shape: Shape) -> int:
        return self._num_weights(shape, self.num_experts)

    def num_params_active(self, shape: Shape) -> int:
        return self._num_weights(shape, self.per_token)

    def flops(self, shape: Shape, reading: Reading) -> float:
        return 2 * reading.length * self.num_params_active(shape)

    def check(self, shape: Shape) -> None:
        check(self)
        is_there = self.per_token <= self.num_experts
        require(self, "per_token", is_there, f"must be at most num_experts = {self.num_experts}")
        is_one = self.capacity is None or self.capacity_factor is None
        require(self, "capacity_factor", is_one, f"does not go with capacity = {self.capacity}: one of them limits")
        require(shape, "mlp_bias", not shape.mlp_bias, "does not go with Experts, which have no biases")

    def width(self, shape: Shape) -> int:
        """Returns the inner width of one expert."""
        return shape.d_ff if self.d_ff is None else self.d_ff

    def room(self, length: int) -> int | None:
        """Returns how many tokens of a row of `length` an expert takes at most; None for all."""
        if self.capacity_factor is not None:
            return min(length, math.ceil(self.capacity_factor * length * self.per_token / self.num_experts))
        return None if self.capacity is None else min(length, self.capacity)

    def _num_weights(self, shape: Shape, experts: int) -> int:
        """Returns the number of weights that a token passes which is sent to `experts` experts."""
        router = shape.d_model * self.num_experts
        return router + experts * num_weights(shape, self.width(shape)) + num_weights(shape, self.shared_d_ff)

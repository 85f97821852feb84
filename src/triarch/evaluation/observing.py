"""Attention weights out of a network as it stands: a kernel that shows them, no copy of any module."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import jax
from jaxtyping import Array, Float

from triarch.models import Execution, ModelConfig, Network, Transformer
from triarch.models.attention.attention_parts import SelfAttention
from triarch.models.attention.masks import Mask
from triarch.models.kernels.kernel import Attend, attention_weights, dense_attention
from triarch.models.network import parameters_of
from triarch.models.placing import Constrain

Kind = Literal["encoder", "decoder", "cross"]
KINDS: tuple[Kind, ...] = ("encoder", "decoder", "cross")


class AttentionSite(NamedTuple):
    """Where attention happens.

    Attributes:
      kind: "encoder" and "decoder" are self-attention of that stack, "cross" is the decoder's attention to the encoder.
      layer: of the stack, from 0 on.
    """

    kind: Kind
    layer: int


class Observation(NamedTuple):
    """What one attention of a network did with a batch.

    Attributes:
      weights: rows sum to one, or are zero where a query sees nothing.
      mask: who could see whom.
    """

    weights: Float[Array, "batch heads query key"]
    mask: Mask


@dataclasses.dataclass(frozen=True, eq=False)
class Observing(Execution):
    """An execution whose kernel also shows its weights; layers are unrolled, so that each shows its own.

    Attributes:
      observe: called with the weights and the mask of every attention, in running order.
    """

    observe: Callable[[jax.Array, Mask], None] = lambda weights, mask: None

    def attend(self, constrain: Constrain) -> Attend:
        """Returns the dense kernel, observed."""

        def attend(query, key, value, mask, scores):
            self.observe(attention_weights(query, key, mask, scores), mask)
            return dense_attention(query, key, value, mask, scores)

        return attend


def sites(config: ModelConfig) -> list[AttentionSite]:
    """Returns where a network attends, in running order; layers with another mixer do not."""
    found = []
    for kind in ("encoder", "decoder"):
        for layer, spec in enumerate(config.layer_specs(kind)):
            found += [AttentionSite(kind, layer)] * isinstance(spec.mixer, SelfAttention)
            found += [AttentionSite("cross", layer)] * (spec.cross is not None)
    return found


def observed(model: Transformer, batch: Mapping[str, jax.Array]) -> dict[AttentionSite, Observation]:
    """Runs a network on a batch and returns what each of its attentions did; may be traced.

    Args:
      model: any of the three architectures; it is neither copied nor changed.
      batch: features as the model reads them.
    """
    found: list[Observation] = []
    execution = Observing(
        compute_dtype=model.execution.compute_dtype,
        scan_layers=False,
        observe=lambda weights, mask: found.append(Observation(weights, mask)),
    )
    # Shares the parameters: only how they are run differs.
    Network(model.config, execution, model.constrain).merge(parameters_of(model)).states(batch)
    return dict(zip(sites(model.config), found, strict=True))

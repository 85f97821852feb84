"""Hidden states out of a network as it stands: an execution that keeps what each layer gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from triarch.models import Execution, Network, Transformer
from triarch.models.network import parameters_of


@dataclasses.dataclass(frozen=True, eq=False)
class Recording(Execution):
    """An execution that shows what goes into each layer and comes out of it; layers are unrolled.

    Attributes:
      record: called with input and output of every layer, in running order.
    """

    record: Callable[[jax.Array, jax.Array], None] = lambda x, y: None

    def rematerialise(self, function: Callable) -> Callable:
        """Wraps one layer so that it is recorded."""

        def recorded(state, x, cache):
            result = function(state, x, cache)
            self.record(x, result[0])
            return result

        return recorded


def hidden_states(model: Transformer, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Returns float32[batch, layers + 1, length, d_model]: what the first layer reads, then what each layer gives.

    The last one is after the final norm. They are those of the encoder, or of a decoder without one.

    Args:
      model: any of the three architectures; it is neither copied nor changed.
      batch: features as the model reads them.
    """
    found: list[tuple[jax.Array, jax.Array]] = []
    execution = Recording(
        compute_dtype=model.execution.compute_dtype,
        scan_layers=False,
        attention=model.execution.attention,
        record=lambda x, y: found.append((x, y)),
    )
    # Shares the parameters: only how they are run differs.
    copy: Any = Network(model.config, execution, model.constrain).merge(parameters_of(model))
    copy.states(batch)
    layers = found[: model.config.num_encoder_layers or model.config.num_decoder_layers]
    states = [layers[0][0], *(y for _, y in layers)]
    stack = copy.encoder if model.config.num_encoder_layers else copy.decoder
    if stack.final_norm is not None:
        states[-1] = stack.final_norm(states[-1])
    return jnp.stack([state.astype(jnp.float32) for state in states], axis=1)

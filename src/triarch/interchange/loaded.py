"""A network ready for use, wherever its parameters came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from triarch.errors import UserError
from triarch.interchange.manifest import Origin
from triarch.interchange.placement import Placement, host_values
from triarch.models import ModelConfig, Network, Transformer
from triarch.models.network import Tree

if TYPE_CHECKING:
    from triarch.interchange.streamed import StoredModel

HostBatch = Mapping[str, np.ndarray]
Function = Callable[[Transformer, Mapping[str, jax.Array]], Any]

_INPUTS = {
    "encoder-only": ("encoder_input_tokens",),
    "decoder-only": ("decoder_input_tokens",),
    "encoder-decoder": ("encoder_input_tokens", "decoder_input_tokens"),
}


@dataclasses.dataclass(eq=False)
class LoadedModel:
    """A network with its parameters, and what is known of where they come from.

    Other parameters may take the place of `params`; what was compiled for the network stays.

    Attributes:
      path: the run or export it was loaded from.
      network: the network.
      params: its parameters.
      origin: objective, vocabulary, step and provenance, as far as known.
      placement: where parameters and batches live.
      vocabulary_files: folder of the files that rebuild the vocabulary; None if there are none.
    """

    path: Path
    network: Network
    params: Tree
    origin: Origin
    placement: Placement
    vocabulary_files: Path | None = None
    _compiled: dict[Function, Callable[[HostBatch], Any]] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def config(self) -> ModelConfig:
        """What the network is."""
        return self.network.config

    @property
    def model(self) -> Transformer:
        """The network as a module with its parameters."""
        return self.network.merge(self.params)

    @property
    def vocabulary(self) -> Mapping[str, Any] | None:
        """Kind, size, fingerprint and special tokens of its vocabulary; None if unknown."""
        return self.origin.vocabulary

    @property
    def known_vocabulary(self) -> Mapping[str, Any]:
        """The same. Raises UserError where it is unknown."""
        if self.origin.vocabulary is None:
            raise UserError(f"{self.path}: its vocabulary is unknown")
        return self.origin.vocabulary

    def logits(self, batch: HostBatch) -> np.ndarray:
        """Returns float32 logits [batch, length, vocab] of the decoder's side, or of an encoder without one.

        Args:
          batch: int arrays [batch, length] by SeqIO's names: `encoder_input_tokens` and `decoder_input_tokens` as far
            as the architecture has them; `*_segment_ids` (0 is padding) and `*_positions` if wanted.

        Raises:
          UserError: an input is missing or misshapen, or holds an id outside the model's vocabulary.
        """
        require_tokens(self)
        self._check(batch)
        return self.compiled(_logits)({name: np.asarray(values) for name, values in batch.items()})

    def under(self, config: ModelConfig) -> LoadedModel:
        """Returns the model with its parameters in the network of another config.

        Raises:
          UserError: that network has other parameters.
        """
        network = self.network.under(config)
        if network.specs != self.network.specs:
            raise UserError(f"{self.path}: its parameters do not fit the changed ModelConfig, which needs others")
        return dataclasses.replace(self, network=network, _compiled={})

    def compiled(self, function: Function) -> Callable[[HostBatch], Any]:
        """Returns `function(model, batch)` compiled, from numpy features to numpy arrays; once for each function."""
        if function not in self._compiled:
            merge = self.network.merge
            run = jax.jit(lambda params, batch: function(merge(params), batch), out_shardings=self.placement.replicated)
            self._compiled[function] = lambda batch: jax.tree.map(
                host_values, run(self.params, self.placement.batch(batch))
            )
        return self._compiled[function]

    def _check(self, batch: HostBatch) -> None:
        for name in _INPUTS[self.config.architecture]:
            if name not in batch:
                given = ", ".join(sorted(batch)) or "nothing"
                raise UserError(
                    f"the batch lacks {name!r}, which {self.config.architecture} models read; it has {given}"
                )
            tokens = np.asarray(batch[name])
            if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer):
                raise UserError(f"{name} is {tokens.dtype}{list(tokens.shape)}, expected integers [batch, length]")
            if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.config.vocab_size:
                found = f"ids from {tokens.min()} to {tokens.max()}"
                raise UserError(f"{name} holds {found}, the model knows 0 to {self.config.vocab_size - 1}")


def require_tokens(model: LoadedModel | StoredModel) -> None:
    """Raises UserError unless a model predicts tokens."""
    reason = model.origin.headless
    if reason is not None:
        raise UserError(
            f"{model.path} predicts no tokens: {reason}: it fills no masks, writes no text and has no perplexity"
        )


def _logits(model: Transformer, batch: Mapping[str, jax.Array]) -> jax.Array:
    return model(batch)

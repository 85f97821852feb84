"""Networks: one config, one block, three assemblies. Imports jax and flax only."""

from triarch.models.assemblies import Decoder, Encoder, EncoderDecoder, Transformer, abstract, build
from triarch.models.config import ModelConfig
from triarch.models.execution import Execution

__all__ = [
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Execution",
    "ModelConfig",
    "Transformer",
    "abstract",
    "build",
]

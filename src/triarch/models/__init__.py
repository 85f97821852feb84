"""Networks: one config, one block, three assemblies. Imports jax, flax and numpy only."""

from triarch.models.assemblies import Decoder, Encoder, EncoderDecoder, MakeHead, Transformer, abstract, build
from triarch.models.config import ModelConfig
from triarch.models.dropout import Dropout
from triarch.models.execution import Execution
from triarch.models.rope import RopeScaling

__all__ = [
    "Decoder",
    "Dropout",
    "Encoder",
    "EncoderDecoder",
    "Execution",
    "MakeHead",
    "ModelConfig",
    "RopeScaling",
    "Transformer",
    "abstract",
    "build",
]

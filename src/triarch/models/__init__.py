"""Networks: one config, one block, three assemblies. Imports jax, flax and numpy only."""

from triarch.models.assemblies import Decoder, Encoder, EncoderDecoder, Transformer, abstract, build
from triarch.models.config import ModelConfig
from triarch.models.execution import Execution
from triarch.models.network import Network
from triarch.models.rope import RopeScaling

__all__ = [
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Execution",
    "ModelConfig",
    "Network",
    "RopeScaling",
    "Transformer",
    "abstract",
    "build",
]

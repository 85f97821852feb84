"""Networks: one config, one block, three assemblies. Imports jax, flax and numpy only."""

from triarch.models.assemblies import Decoder, Encoder, EncoderDecoder, Transformer, abstract, build
from triarch.models.choices import register_feed_forward, register_mixer
from triarch.models.config import ModelConfig
from triarch.models.execution import Execution
from triarch.models.rope import RopeScaling

__all__ = [
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Execution",
    "ModelConfig",
    "RopeScaling",
    "Transformer",
    "abstract",
    "build",
    "register_feed_forward",
    "register_mixer",
]

"""Networks: one config, one block, three assemblies. Imports jax, flax and numpy only."""

from typing import TYPE_CHECKING

from triarch import lazy
from triarch.models.adapters.lora import LoRA
from triarch.models.attention.rope import RopeScaling
from triarch.models.choices import register_feed_forward, register_mixer
from triarch.models.config import ModelConfig
from triarch.models.execution import Execution
from triarch.models.layers.dropout_rates import Dropout

if TYPE_CHECKING:
    from triarch.models.assemblies import Decoder, Encoder, EncoderDecoder, MakeHead, Transformer, abstract, build
    from triarch.models.network import Network

__all__ = [
    "Decoder",
    "Dropout",
    "Encoder",
    "EncoderDecoder",
    "Execution",
    "LoRA",
    "MakeHead",
    "ModelConfig",
    "Network",
    "RopeScaling",
    "Transformer",
    "abstract",
    "build",
    "register_feed_forward",
    "register_mixer",
]
# Flax takes half a second to import, and a config needs none of it.
__getattr__ = lazy.names_from(
    __name__,
    {
        "assemblies": ("Decoder", "Encoder", "EncoderDecoder", "MakeHead", "Transformer", "abstract", "build"),
        "network": ("Network",),
    },
)

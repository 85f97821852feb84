"""Generation for all three architectures, after training: tokens in, tokens out."""

from triarch.decoding.conventions import Conventions
from triarch.decoding.generator import Generator, decoder_start, generate
from triarch.decoding.mask_filling import fill_masks, generate_by_masks
from triarch.decoding.settings import GenerationSettings

__all__ = [
    "Conventions",
    "GenerationSettings",
    "Generator",
    "decoder_start",
    "fill_masks",
    "generate",
    "generate_by_masks",
]

"""Generation for all three architectures, after training: tokens in, tokens out."""

from triarch.decoding.generator import Generator, generate, generator
from triarch.decoding.settings import GenerationSettings

__all__ = ["GenerationSettings", "Generator", "generate", "generator"]

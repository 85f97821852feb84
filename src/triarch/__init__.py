"""triarch: encoder-only, decoder-only and encoder-decoder language models under one recipe."""

__version__ = "0.1.0"

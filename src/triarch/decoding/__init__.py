"""Scoring and generation for all three architectures, after training: tokens in, numbers or tokens out."""

from triarch.decoding.conventions import Conventions
from triarch.decoding.generator import Generator, decoder_start, generate
from triarch.decoding.mask_filling import fill_masks, generate_by_masks
from triarch.decoding.scoring import Continuation, Score, rolling, score
from triarch.decoding.settings import GenerationSettings
from triarch.decoding.stopping import StopTexts
from triarch.decoding.writer import Writer

__all__ = [
    "Continuation",
    "Conventions",
    "GenerationSettings",
    "Generator",
    "Score",
    "StopTexts",
    "Writer",
    "decoder_start",
    "fill_masks",
    "generate",
    "generate_by_masks",
    "rolling",
    "score",
]

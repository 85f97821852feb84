"""Texts with labels to token stores."""

from triarch.prepare.labelled.pipeline import LabelledFiles, prepare_labelled

__all__ = ["LabelledFiles", "prepare_labelled"]

"""Rows to tune on as they are published: FLAN, P3, natural instructions, conversations."""

from triarch.prepare.corpora.instructions.corpus import Instructions, RowTemplates

__all__ = ["Instructions", "RowTemplates"]

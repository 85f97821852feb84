"""Text, JSON lines, Parquet and Arrow files, on this machine or wherever fsspec reaches, as a corpus."""

from triarch.prepare.corpora.files.corpus import UNITS, Files
from triarch.prepare.corpora.files.storage import SUFFIXES, matching

__all__ = ["SUFFIXES", "UNITS", "Files", "matching"]

"""Corpora: where documents come from, which are kept, and which split each belongs to."""

"""The corpora that tasks are registered for, by task name."""

from __future__ import annotations

from triarch.prepare.corpora.documents import Corpus
from triarch.prepare.corpora.published import published_corpora
from triarch.prepare.corpora.stdlib import StdlibCode, StdlibProse

# `triarch.tasks.registry` registers a SeqIO task for each; reading the text itself needs no SeqIO.
CORPORA: dict[str, Corpus] = {"stdlib_code": StdlibCode(), "stdlib_prose": StdlibProse(), **published_corpora()}

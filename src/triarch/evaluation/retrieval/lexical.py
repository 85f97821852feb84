"""BM25 as a baseline, by the library bm25s (extra `retrieval`)."""

from __future__ import annotations

import logging

import numpy as np

from triarch.errors import UserError
from triarch.evaluation.retrieval.beir import Collection

# Lucene's variant with its usual constants.
_K1, _B = 1.2, 0.75


def bm25_ranking(collection: Collection, count: int) -> list[list[str]]:
    """Returns the ids of each query's best passages by BM25 (English stop words left out, no stemming).

    Raises:
      UserError: bm25s is not installed.
    """
    try:
        import bm25s
    except ImportError:
        raise UserError("the baseline BM25 needs bm25s: pip install 'triarch[retrieval]'") from None
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    quiet = {"show_progress": False}
    index = bm25s.BM25(method="lucene", k1=_K1, b=_B)
    index.index(bm25s.tokenize(list(collection.documents), stopwords="en", **quiet), **quiet)
    queries = bm25s.tokenize(list(collection.queries), stopwords="en", **quiet)
    found, _ = index.retrieve(queries, k=min(count, len(collection.documents)), **quiet)
    return [[collection.document_ids[place] for place in row] for row in np.asarray(found).tolist()]

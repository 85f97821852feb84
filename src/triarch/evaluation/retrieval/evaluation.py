"""A model on a collection: passages and queries embedded, searched exactly, measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from triarch.evaluation.embedding import embed
from triarch.evaluation.retrieval.beir import Collection
from triarch.evaluation.retrieval.lexical import bm25_ranking
from triarch.evaluation.retrieval.metrics import DEPTH, METRICS, interval, measured
from triarch.evaluation.retrieval.search import nearest_passages
from triarch.interchange import LoadedModel
from triarch.interchange.embedder import Embedder
from triarch.progress import Progress
from triarch.tokenizers import Tokenizer

# Names under which sentence-transformers folders have a prompt for queries, and for passages.
_QUERY, _PASSAGE = ("query",), ("document", "passage", "corpus")


@dataclasses.dataclass(frozen=True)
class Retrieved:
    """How well the relevant passages were found.

    Attributes:
      metrics: means over the queries by name.
      intervals: of 95 percent of each mean, by a bootstrap over queries.
      by_query: the values of each query.
    """

    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    by_query: Mapping[str, Mapping[str, float]]

    def as_json(self) -> dict[str, Any]:
        """Returns means and intervals as plain values."""
        return {**self.metrics, "intervals": {name: list(ends) for name, ends in self.intervals.items()}}


def prompt_for(embedder: Embedder, given: str | None, kind: str) -> str:
    """Returns what is put before each "query" or "passage": what is given, else the embedder's prompt of that name."""
    names = _QUERY if kind == "query" else _PASSAGE
    known = next((name for name in names if name in embedder.prompts), None)
    return embedder.prompt(given, None if given is not None else known)


def evaluate_retrieval(
    model: LoadedModel,
    tokenizer: Tokenizer,
    collection: Collection,
    embedder: Embedder,
    *,
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    skip_same_id: bool = False,
    progress: Progress | None = None,
) -> Retrieved:
    """Returns how well a model's vectors find the passages.

    Args:
      model: of any architecture.
      tokenizer: of the model.
      collection: passages, queries and judgements.
      embedder: how texts become vectors; by its similarity they are compared.
      query_prompt: put before queries; None for the embedder's own, if it has one.
      passage_prompt: put before passages, likewise.
      max_length: tokens read of a text at most, in place of the embedder's.
      batch_size: texts computed at once.
      skip_same_id: whether a passage whose id is the query's is no hit.
      progress: shown as it goes.

    Raises:
      UserError: a prompt leaves no room for a text.
    """
    embedder = dataclasses.replace(embedder, normalize=embedder.normalize or embedder.similarity == "cosine")
    progress = progress or Progress(show=False)

    def vectors(texts: Sequence[str], prompt: str, what: str) -> np.ndarray:
        progress.start(f"{what} of {collection.name}", len(texts))
        return embed(
            model,
            tokenizer,
            texts,
            embedder,
            prompt=prompt,
            max_length=max_length,
            batch_size=batch_size,
            empty_is_zero=True,
            advance=lambda done: progress.advance(done),
        ).vectors

    # Of equal scores the greater id comes first, as in trec_eval.
    order = sorted(range(len(collection.documents)), key=lambda index: collection.document_ids[index], reverse=True)
    ids = [collection.document_ids[index] for index in order]
    passages = vectors(
        [collection.documents[index] for index in order], prompt_for(embedder, passage_prompt, "passage"), "passages"
    )
    queries = vectors(collection.queries, prompt_for(embedder, query_prompt, "query"), "queries")
    progress.start(f"search {collection.name}", len(queries))
    found, _ = nearest_passages(queries, passages, DEPTH + skip_same_id, lambda done: progress.advance(done))
    ranked = [[ids[place] for place in row] for row in found.tolist()]
    return _measured(collection, ranked, skip_same_id)


def evaluate_bm25(collection: Collection, skip_same_id: bool = False) -> Retrieved:
    """Returns how well BM25 finds the passages.

    Raises:
      UserError: bm25s is not installed.
    """
    return _measured(collection, bm25_ranking(collection, DEPTH + skip_same_id), skip_same_id)


def _measured(collection: Collection, ranked: Sequence[Sequence[str]], skip_same_id: bool) -> Retrieved:
    by_query = {}
    for query, row in zip(collection.query_ids, ranked, strict=True):
        kept = [passage for passage in row if passage != query] if skip_same_id else row
        by_query[query] = measured(kept, collection.judgements[query])
    values = {name: [one[name] for one in by_query.values()] for name in METRICS}
    means = {name: float(np.mean(found)) for name, found in values.items()}
    return Retrieved(means, {name: interval(found) for name, found in values.items()}, by_query)

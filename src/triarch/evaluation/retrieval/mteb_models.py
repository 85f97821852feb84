"""Models and local collections as the package mteb takes them, whose own tasks then measure ours.

model = MtebEncoder(triarch.load("runs/retriever"))
mteb.evaluate(model, local_task("SciFact", "data/scifact"), cache=None)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triarch.errors import UserError, nearest
from triarch.evaluation.embedding import embed
from triarch.evaluation.retrieval.beir import read_collection
from triarch.evaluation.retrieval.evaluation import prompt_for
from triarch.interchange.embedder import Embedder


class MtebEncoder:
    """A model that mteb's tasks embed texts with (`mteb.models.EncoderProtocol`)."""

    def __init__(
        self,
        model: Any,
        *,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        max_length: int | None = None,
        batch_size: int = 32,
    ):
        """A model of `triarch.load`, which embeds texts as it was trained or imported to.

        Args:
          model: a run, an export or an import, loaded.
          query_prompt: put before queries; None for the model's own, if it has one.
          passage_prompt: put before passages, likewise.
          max_length: tokens read of a text at most; None for the model's own.
          batch_size: texts computed at once.

        Raises:
          UserError: mteb is not installed.
        """
        _library()
        embedder: Embedder = model.embedder()
        is_cosine = embedder.similarity == "cosine"
        self._model = model
        self._embedder = dataclasses.replace(embedder, normalize=embedder.normalize or is_cosine)
        self._prompts = {"query": query_prompt, "document": passage_prompt}
        self._max_length = max_length
        self._batch_size = batch_size

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Returns float32 vectors [texts, d_model] of the texts of `inputs`, batches {"text": texts}.

        Args:
          inputs: in order.
          task_metadata: of mteb's task.
          hf_split: of the task.
          hf_subset: of the task.
          prompt_type: "query" or "document"; other texts have no prompt but the model's default.
          kwargs: mteb's batch_size and so on, which change nothing.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        kind = getattr(prompt_type, "value", prompt_type)
        if kind in self._prompts:
            prompt = prompt_for(self._embedder, self._prompts[kind], "query" if kind == "query" else "passage")
        else:
            prompt = self._embedder.prompt(None, None)
        return embed(
            self._model,
            self._model.tokenizer,
            texts,
            self._embedder,
            prompt=prompt,
            max_length=self._max_length,
            batch_size=self._batch_size,
            empty_is_zero=True,
        ).vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Returns the similarities of all pairs of two sets of vectors."""
        from mteb import similarity_functions

        name = "cos_sim" if self._embedder.similarity == "cosine" else "dot_score"
        return getattr(similarity_functions, name)(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Returns the similarity of each vector with that of the same place in the other set."""
        from mteb import similarity_functions

        name = "pairwise_cos_sim" if self._embedder.similarity == "cosine" else "pairwise_dot_score"
        return getattr(similarity_functions, name)(embeddings1, embeddings2)

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb files results under: a name of the model's folder, and its size."""
        from mteb.models.model_meta import ModelMeta, ScoringFunction

        config = self._model.config
        cosine = self._embedder.similarity == "cosine"
        return ModelMeta.create_empty(
            {
                "name": f"triarch/{Path(self._model.path).absolute().name}",
                "revision": str(self._model.origin.step),
                "n_parameters": config.num_params(),
                "embed_dim": config.d_model,
                "similarity_fn_name": ScoringFunction.COSINE if cosine else ScoringFunction.DOT_PRODUCT,
            }
        )


def local_task(name: str, folder: str | Path, split: str = "test") -> Any:
    """Returns a retrieval task of mteb's own that reads a local folder in BEIR's layout and fetches nothing.

    Args:
      name: of the task in mteb, as "SciFact".
      folder: with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv.
      split: of the judgements; the task's own that is evaluated.

    Raises:
      UserError: mteb is not installed or has no such task of this kind and split, or the folder is damaged.
    """
    library = _library()
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval

    try:
        task = library.get_task(name)
    except KeyError:
        known = [one.metadata.name for one in library.get_tasks(task_types=["Retrieval"], languages=["eng"])]
        raise UserError(f"mteb has no task {name!r}{nearest(name, known)}") from None
    if not isinstance(task, AbsTaskRetrieval) or split not in task.metadata.eval_splits:
        splits = ", ".join(task.metadata.eval_splits)
        raise UserError(f"mteb's task {name}: expected one of retrieval with a split {split!r} (it has {splits})")
    collection = read_collection(Path(folder), split)

    def rows(ids: Iterable[str], texts: Iterable[str], **more: str) -> Any:
        return Dataset.from_list([{"id": one, "text": text, **more} for one, text in zip(ids, texts, strict=True)])

    task.dataset = {
        "default": {
            split: {
                "corpus": rows(collection.document_ids, collection.documents, title=""),
                "queries": rows(collection.query_ids, collection.queries),
                "relevant_docs": {query: dict(grades) for query, grades in collection.judgements.items()},
                "top_ranked": None,
            }
        }
    }
    task.data_loaded = True
    return task


def _library() -> Any:
    try:
        import mteb
    except ImportError as error:
        raise UserError("mteb's tasks need the package mteb: pip install 'triarch[mteb]'") from error
    return mteb

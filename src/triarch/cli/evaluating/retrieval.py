"""`triarch evaluate --retrieval` and `--similarity`: their flags, and what is shown."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli.views.text_table import aligned
from triarch.errors import UserError
from triarch.models.pooling import check_pooling

if TYPE_CHECKING:
    from triarch.evaluation.retrieval.evaluation import Retrieved
    from triarch.text_model import Model

_SPLIT = "test"
_OF_RETRIEVAL = ("retrieval_split", "baseline", "query_prompt", "passage_prompt", "skip_same_id")
_OF_SIMILARITY = ("similarity_fields", "prompt")
_OF_BOTH = ("pooling", "normalize")


def add_retrieval_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of retrieval and of similarity."""
    add = parser.add_argument_group("retrieval, and similarity of texts").add_argument
    add(
        "--retrieval", type=Path, metavar="FOLDER",
        help="in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv; nDCG@10, MRR@10 and recall@100",
    )  # fmt: skip
    add("--retrieval_split", metavar="SPLIT", help=f"of the judgements (default: {_SPLIT})")
    add("--baseline", help="bm25: beside the model (needs bm25s, extra retrieval)")
    add("--query_prompt", metavar="TEXT", help="put before queries (default: the model's own, if it has one)")
    add("--passage_prompt", metavar="TEXT", help="put before passages, likewise")
    add("--skip_same_id", action="store_true", default=None, help="a passage with the query's id is no hit")
    add(
        "--similarity", type=Path, metavar="FILE",
        help="pairs of texts with scores (TSV, CSV, JSON lines, Parquet): Spearman's correlation with their cosines",
    )  # fmt: skip
    add("--similarity_fields", metavar="A,B,SCORE", help="of the pairs (default: sentence1,sentence2,score)")
    add("--prompt", metavar="TEXT", help="with --similarity: put before each text")
    add("--pooling", help="mean, cls or last (default: the model's own, or mean)")
    add("--normalize", action=argparse.BooleanOptionalAction, default=None, help="whether vectors have length 1")


def asks_for_retrieval(args: argparse.Namespace) -> bool:
    """Whether a collection or pairs are to be evaluated."""
    return args.retrieval is not None or args.similarity is not None


def refuse_retrieval_flags(args: argparse.Namespace) -> None:
    """Raises UserError for a flag of retrieval that was given without it."""
    for name in (*_OF_RETRIEVAL, *_OF_SIMILARITY, *_OF_BOTH):
        if getattr(args, name) is not None:
            needed = "--similarity" if name in _OF_SIMILARITY else "--retrieval"
            raise UserError(f"--{name} goes with {needed}: give that, too")


def run_retrieval(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluates one model on a collection, or on pairs of texts, and prints a table.

    Raises:
      UserError: a flag is out of range, or the model, the collection or the pairs cannot be read.
    """
    if args.retrieval is not None and args.similarity is not None:
        raise UserError("--retrieval and --similarity: one at a time")
    for name in _OF_SIMILARITY if args.retrieval is not None else _OF_RETRIEVAL:
        if getattr(args, name) is not None:
            raise UserError(f"--{name} does not go with --{'retrieval' if args.retrieval else 'similarity'}")
    if len(args.model) > 1:
        raise UserError("more than one --model: retrieval and similarity are of one model at a time")
    if args.baseline not in (None, "bm25"):
        raise UserError(f"--baseline={args.baseline}: expected bm25")
    if args.pooling is not None:
        check_pooling(args.pooling, f"--pooling={args.pooling}")
    for name in ("batch_size", "max_length"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name}={value}: expected at least 1")
    return _run_retrieval(args) if args.retrieval is not None else _run_similarity(args)


def _run_retrieval(args: argparse.Namespace) -> dict[str, Any]:
    from triarch.evaluation.retrieval.beir import read_collection
    from triarch.evaluation.retrieval.evaluation import evaluate_bm25, evaluate_retrieval
    from triarch.progress import Progress

    collection = read_collection(args.retrieval, args.retrieval_split or _SPLIT)
    baseline = evaluate_bm25(collection, bool(args.skip_same_id)) if args.baseline else None
    model = _load(args)
    with Progress(show=True) as progress:
        found = evaluate_retrieval(
            model,
            model.tokenizer,
            collection,
            model.embedder(args.pooling, args.normalize),
            query_prompt=args.query_prompt,
            passage_prompt=args.passage_prompt,
            max_length=args.max_length,
            batch_size=args.batch_size,
            skip_same_id=bool(args.skip_same_id),
            progress=progress,
        )
    rows = [_row(model.path.name, found), *([_row("BM25", baseline)] if baseline else [])]
    print(aligned(("", *found.metrics), rows, words=1))
    queries, documents = len(collection.query_ids), len(collection.document_ids)
    told = f"{queries:,} queries, {documents:,} passages; 95% intervals over queries"
    print(f"{collection.name}, {collection.split}: {told}")
    result = {
        "model": str(model.path),
        "retrieval": collection.name,
        "split": collection.split,
        "num_queries": queries,
        "num_passages": documents,
        **found.as_json(),
    }
    return result if baseline is None else result | {"bm25": baseline.as_json()}


def _run_similarity(args: argparse.Namespace) -> dict[str, Any]:
    from triarch.evaluation.retrieval.similarity import FIELDS, evaluate_similarity, read_pairs
    from triarch.progress import Progress

    fields = FIELDS if args.similarity_fields is None else tuple(args.similarity_fields.split(","))
    if len(fields) != len(FIELDS) or not all(fields):
        raise UserError(f"--similarity_fields={args.similarity_fields}: expected three names, as {','.join(FIELDS)}")
    pairs = read_pairs(args.similarity, fields)
    model = _load(args)
    embedder = model.embedder(args.pooling, args.normalize)
    with Progress(show=True) as progress:
        progress.start(f"embed {args.similarity.name}", 2 * len(pairs.scores))
        found = evaluate_similarity(
            model,
            model.tokenizer,
            pairs,
            embedder,
            prompt=embedder.prompt(args.prompt, None),
            max_length=args.max_length,
            batch_size=args.batch_size,
            advance=lambda done: progress.advance(done),
        )
    low, high = found["intervals"]["spearman"]
    told = f"Spearman {found['spearman']:.4f} ({low:.4f} to {high:.4f}), Pearson {found['pearson']:.4f}"
    print(f"{args.similarity}: {found['num_pairs']:,} pairs: {told}")
    return {"model": str(model.path), "similarity": str(args.similarity), **found}


def _load(args: argparse.Namespace) -> Model:
    from triarch.interchange import Placement
    from triarch.loading import load_text_model

    step = {} if args.step is None else {"step": int(args.step) if args.step.isdecimal() else args.step}
    return load_text_model(args.model[0], placement=Placement.one_device(), **step)


def _row(name: str, found: Retrieved) -> tuple[str, ...]:
    cells = []
    for metric, mean in found.metrics.items():
        low, high = found.intervals[metric]
        cells.append(f"{mean:.4f} ({low:.4f} to {high:.4f})")
    return (name, *cells)

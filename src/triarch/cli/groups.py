"""`triarch prepare --task=groups`: queries with their passages and hard negatives."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.data.store import TokenStore
    from triarch.prepare.vocabulary_choice import VocabularyChoice

TASK = "groups"
FLAGS = (
    *("query_field", "passage_field", "negative_fields", "num_negatives", "max_query", "max_passage"),
    *("query_prompt", "passage_prompt", "score_fields"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that are for groups alone."""
    add = parser.add_argument_group(
        "queries and passages",
        f"--task={TASK} reads --files of TSV, CSV, JSON lines, Parquet or Arrow whose rows are a query, a passage that "
        "answers it, and hard negatives; the objective Contrast learns from such a store, and MarginMSE from one "
        "with a teacher's scores.",
    ).add_argument
    add("--query_field", default="query", help="field or column of the query (default: %(default)s)")
    add("--passage_field", default="passage", help="likewise of the passage (default: %(default)s)")
    add("--negative_fields", metavar="NAMES", help="of a hard negative each, with commas between; or one of a list")
    add("--num_negatives", type=int, metavar="N", help="--negative_fields names a list: take its first N texts")
    add("--max_query", type=int, default=64, help="tokens that queries are cut to (default: %(default)s)")
    add("--max_passage", type=int, default=256, help="tokens that passages are cut to (default: %(default)s)")
    add(
        "--score_fields", metavar="NAMES",
        help="of a teacher's scores of the passage and of each hard negative, with commas between; or one of a list of "
        "them, or of how much higher than each negative the passage is scored",
    )  # fmt: skip
    add("--query_prompt", default="", metavar="TEXT", help="put before each query, as 'query: '")
    add("--passage_prompt", default="", metavar="TEXT", help="put before each passage and hard negative")


def prepare(args: argparse.Namespace, vocabulary: VocabularyChoice) -> TokenStore:
    """Prepares the store that the flags ask for.

    Raises:
      UserError: see `triarch.prepare.groups.prepare_groups`; flags that contradict each other.
    """
    from triarch.prepare.corpora.files.storage import matching
    from triarch.prepare.groups import GroupFiles, prepare_groups

    if not args.files:
        raise UserError(f"--task={TASK}: give the rows with --files=PATTERN")
    if args.layout not in (None, TASK):
        raise UserError(f"--layout={args.layout}: the store of --task={TASK} has the layout {TASK}")
    negatives = tuple(name.strip() for name in args.negative_fields.split(",")) if args.negative_fields else ()
    if not all(negatives) or len(set(negatives)) < len(negatives):
        raise UserError(f"--negative_fields={args.negative_fields}: expected names that differ, with commas between")
    if args.num_negatives is not None and (len(negatives) != 1 or args.num_negatives < 1):
        raise UserError(f"--num_negatives={args.num_negatives}: expected at least 1, of one field in --negative_fields")
    scores = tuple(name.strip() for name in args.score_fields.split(",")) if args.score_fields else ()
    if not all(scores):
        raise UserError(f"--score_fields={args.score_fields}: expected names with commas between")
    paths = dict.fromkeys(path for pattern in args.files for path in matching(pattern))
    files = GroupFiles(
        tuple(paths),
        args.query_field,
        args.passage_field,
        negatives,
        args.num_negatives,
        args.query_prompt,
        args.passage_prompt,
        args.skip_bad_records,
        scores,
    )
    lengths = args.max_query, args.max_passage
    return prepare_groups(
        files, args.task, args.output, vocabulary, *lengths, args.validation_fraction, args.overwrite, True
    )

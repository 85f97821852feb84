"""`triarch prepare` of rows to tune on: published instruction data, conversations, and FLAN 2022 as a mixture."""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.errors import UserError
from triarch.files import read_given

if TYPE_CHECKING:
    from triarch.prepare.corpora.instructions import Instructions
    from triarch.prepare.corpora.instructions.flan import FlanPart
    from triarch.prepare.vocabulary_choice import VocabularyChoice
    from triarch.tokenizers import Tokenizer
    from triarch.tokenizers.chat import ChatTemplate

ROWS, FLAN = "instructions", "flan2022"
TASKS = (ROWS, FLAN)
FLAGS = ("chat_template", "inputs_template", "targets_template", "task_cap", "submixture")
_MOST_BYTES = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that are for rows to tune on alone."""
    add = parser.add_argument_group(
        "rows to tune on",
        f"--task={ROWS} reads --files of JSON lines, Parquet or Arrow as they are published: FLAN 2022 (inputs, "
        "targets, task_name), P3 (inputs_pretokenized, ...), natural instructions (definition, inputs, targets), "
        "prompt and completion, and conversations (messages, or ShareGPT's), which the vocabulary's own chat template "
        f"writes; each message of the assistant is an example's targets. --task={FLAN} reads a dump of FLAN 2022 in "
        "--data_dir as the published mixture: a store for each of its parts, and a gin file with their rates.",
    ).add_argument
    add("--chat_template", type=Path, metavar="FILE", help="Jinja in place of the vocabulary's own chat template")
    add("--inputs_template", metavar="JINJA", help="makes inputs of a row's fields, as '{{question}} {{hint}}'")
    add("--targets_template", metavar="JINJA", help="likewise the targets")
    add("--task_cap", type=int, metavar="N", help="at most N rows of a task, evenly from all of its rows")
    add(
        "--submixture", action="append", default=[], metavar="NAME",
        help=f"of {FLAN}: take flan2021, t0, niv2, cot or dialog alone; repeatable",
    )  # fmt: skip


def rows_corpus(args: argparse.Namespace, choice: VocabularyChoice) -> Instructions:
    """Returns the rows of --files.

    Raises:
      UserError: there are none; a template is no Jinja; flags that are for FLAN alone.
    """
    from triarch.decoding.chat import own_template
    from triarch.prepare.corpora.files import matching
    from triarch.prepare.corpora.instructions import Instructions, RowTemplates

    if not args.files:
        raise UserError(f"--task={ROWS}: give the rows with --files=PATTERN")
    if args.submixture:
        raise UserError(f"--submixture is for --task={FLAN}")
    templates = None
    if args.inputs_template is not None or args.targets_template is not None:
        if args.inputs_template is None or args.targets_template is None:
            raise UserError("--inputs_template and --targets_template belong together: give both")
        templates = RowTemplates(args.inputs_template, args.targets_template)
    paths = dict.fromkeys(path for pattern in args.files for path in matching(pattern))
    tokenizer = choice.existing()
    template = own_template(tokenizer) if args.chat_template is None else read_template(args.chat_template, tokenizer)
    return Instructions(tuple(paths), template, templates, cap=args.task_cap)


def read_template(file: Path, tokenizer: Tokenizer | None) -> ChatTemplate:
    """Returns the template of --chat_template, which knows the special tokens of a tokenizer.

    Raises:
      UserError: it cannot be read, or is no text.
    """
    from triarch.decoding.chat import given_template

    try:
        source = read_given(file, _MOST_BYTES).decode()
    except OSError as error:
        raise UserError(f"--chat_template={file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"--chat_template={file}: is not UTF-8 text: {error.reason}") from None
    return given_template(source, f"--chat_template={file}", tokenizer)


def prepare_flan(args: argparse.Namespace, choice: VocabularyChoice, options: dict[str, Any]) -> dict[str, Any]:
    """Writes a store for each part of FLAN 2022, and the gin file that mixes them; prints what they hold.

    Args:
      args: of the verb.
      choice: of the vocabulary, which all parts share.
      options: of `triarch.prepare.pipeline.prepare` for each part.

    Raises:
      UserError: see `prepare`; no folder, no vocabulary that all could share, a pattern that holds nothing out.
    """
    from triarch.cli.seqio.prepare import mixture_gin
    from triarch.cli.views.store_summary import summary
    from triarch.files import write_whole
    from triarch.prepare.corpora.files import matching
    from triarch.prepare.corpora.instructions.flan import parts
    from triarch.prepare.pipeline import prepare

    if not args.data_dir or args.files:
        raise UserError(f"--task={FLAN}: name the folder of the dump's files with --data_dir=FOLDER, and no --files")
    if choice.existing() is None:
        raise UserError(
            f"--task={FLAN}: its stores share a vocabulary: name one with --vocabulary or --vocabulary_from"
        )
    if (args.output / "manifest.json").is_file():
        raise UserError(f"{args.output}: is a store; a mixture has a store for each part: choose another --output")
    for flag in ("chat_template", "inputs_template", "targets_template", "task_cap"):
        if getattr(args, flag) is not None:
            raise UserError(f"--{flag} is for --task={ROWS}: FLAN 2022 has caps of its own")
    start = time.monotonic()
    found, missing = parts(matching(args.data_dir), args.data_dir, args.submixture)
    print(f"mixture {FLAN}: {len(found)} parts", *(f"  without {name}: no file" for name in missing), sep="\n")
    found = [_with_options(part, args) for part in found]
    held_out = _held_out(args.hold_out, found)
    stores = []
    for part in found:
        path = args.output / part.name
        if (path / "manifest.json").is_file() and not args.overwrite:
            raise UserError(f"{path}: is there already: choose another --output, or --overwrite")
        stores.append(prepare(part.corpus, part.name, path, choice, hold_out=held_out[part.name], **options))
        print(*summary(stores[-1]), sep="\n", flush=True)
    path = args.output / f"{FLAN}.gin"
    write_whole(path, mixture_gin(FLAN, stores, [part.rate for part in found], "The mixture"))
    print(f"{path}: reads the stores at the mixture's rates: triarch train --gin_file={path} ...")
    return {
        "mixture": FLAN,
        "gin_file": str(path),
        "stores": {str(store.path): dataclasses.asdict(store.manifest) for store in stores},
        "rates": {part.name: part.rate for part in found},
        "seconds": time.monotonic() - start,
    }


def _with_options(part: FlanPart, args: argparse.Namespace) -> FlanPart:
    corpus = dataclasses.replace(part.corpus, skip_bad_records=args.skip_bad_records)
    return dataclasses.replace(part, corpus=corpus)


def _held_out(patterns: list[str], found: list[FlanPart]) -> dict[str, tuple[str, ...]]:
    """Returns the patterns that hold tasks out, by part: a store has no empty split."""
    by_part = {
        part.name: tuple(
            pattern for pattern in patterns if any(fnmatch.fnmatchcase(task, pattern) for task in part.corpus.task_rows)
        )
        for part in (found if patterns else ())
    }
    for pattern in patterns:
        if not any(pattern in own for own in by_part.values()):
            raise UserError(f"--hold_out={pattern}: no task of FLAN 2022 as it lies there matches")
    return {part.name: by_part.get(part.name, ()) for part in found}

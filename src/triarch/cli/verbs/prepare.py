"""`triarch prepare`: text to a token store."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli import groups
from triarch.cli.seqio import prepare as seqio_prepare
from triarch.cli.seqio.tensorflow_quiet import import_seqio, quiet_tensorflow
from triarch.cli.tuning import instructions
from triarch.errors import UserError, nearest

if TYPE_CHECKING:
    import seqio

    from triarch.data.store import TokenStore
    from triarch.prepare.beam import Beam
    from triarch.prepare.corpora.documents import Corpus
    from triarch.prepare.vocabulary_choice import VocabularyChoice

HELP = "tokenize a task's text into a token store"
EXAMPLE = (
    "triarch prepare --task=stdlib_code --output=stores/code --vocabulary_size=4096 --window=512\n"
    "triarch prepare --task=files --files=flan.jsonl --inputs_field=inputs --text_field=targets --layout=packed_pairs "
    "--output=stores/flan\n"
    "triarch prepare --task=files --files=train.tsv --split_files=validation=dev.tsv --layout=labelled "
    "--label_field=label --text_field=sentence --vocabulary=exports/bert --window=128 --output=stores/sst2\n"
    "triarch prepare --task=instructions --files=chats.jsonl --vocabulary=models/instruct --output=stores/chats\n"
    "triarch prepare --task=groups --files=train.jsonl --query_field=query --passage_field=positive "
    "--negative_fields=negative --vocabulary=exports/minilm --output=stores/triples\n"
    "triarch prepare --task=flan2022 --data_dir=data/flan --vocabulary_from=stores/code --hold_out='anli*' "
    "--output=stores/flan"
)

# Modules that `--module` names register tasks: SeqIO is there before they are imported.
before_modules = import_seqio
LOCAL, BEAM = "local", "beam"
FILES_TASK = "files"
LABELLED = "labelled"
TFDS_TASK = "tfds:"
# Flags that say nothing to a SeqIO task of the user's own, and those that say something to no other.
_OF_CORPORA = (
    *("files", "text_field", "inputs_field", "tfds_split", "skip_bad_records", "documents", "min_characters"),
    *("max_characters", "deduplicate", "vocabulary", "vocabulary_size", "vocabulary_model", "vocabulary_from"),
    *("validation_fraction", "hold_out", "id_field", "runner", "beam_option", "beam_folder"),
    *("label_field", "pair_field", "columns", "label_names", "regression", "split_files"),
)
_OF_LABELLED = ("label_field", "pair_field", "columns", "label_names", "regression", "split_files")
_NOT_OF_LABELLED = (
    *("inputs_field", "documents", "min_characters", "max_characters", "deduplicate", "gap", "hold_out", "workers"),
    *("runner", "beam_option", "beam_folder"),
)
# Those of the former that no row to tune on has a use for.
_NOT_OF_ROWS = ("text_field", "inputs_field", "tfds_split", "documents", "runner", "beam_option", "beam_folder")
# Likewise of queries and passages.
_NOT_OF_GROUPS = (
    *(*_NOT_OF_ROWS, "window", "gap", "min_characters", "max_characters", "deduplicate", "hold_out", "workers"),
    *("max_inputs", "max_targets"),
)
_OF_TASKS = ("split", "sequence_length", "max_examples", "num_epochs", "seed", "shards", "seqio_cache_dir")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch prepare`."""
    add = parser.add_argument
    add(
        "--task",
        required=True,
        help="a SeqIO task (stdlib_code, redpajama_arxiv, c4_en, ...) or one of your own, or a mixture (see --module), "
        "'files', 'instructions' or 'groups' for --files, flan2022, or 'tfds:NAME' for a prepared TFDS data set",
    )
    add("--output", required=True, type=Path, help="folder of the store; of a mixture, of its stores")
    add(
        "--files",
        action="append",
        default=[],
        metavar="PATTERN",
        help="a .txt or .jsonl file (or .gz, .zst), a .parquet or .arrow file, a glob pattern or a folder of such; a "
        "path or a URL (gs://...); repeatable",
    )
    add("--data_dir", help="folder that published corpora or TFDS data sets lie in (published: or $TRIARCH_DATA_DIR)")
    add("--text_field", default="text", help="field or column that holds the document (default: %(default)s)")
    add("--inputs_field", help="field or column that holds an example's inputs; --text_field holds its targets")
    add("--label_field", help="of labelled: field or column of a text's label; of words' labels, a list")
    add("--pair_field", help="of labelled: field or column of a second text")
    add(
        "--columns",
        help="of labelled: columns of TSV and CSV files that do not begin with their names, as source,label,mark,text",
    )
    add(
        "--label_names",
        help="of labelled: names of the classes in their order, as negative,positive; rows have these or their numbers "
        "(default: what the training split has)",
    )
    add("--regression", action="store_true", help="of labelled: labels are numbers, not classes")
    add(
        "--split_files",
        action="append",
        default=[],
        metavar="SPLIT=PATTERN",
        help="of labelled: files of another split than train, as validation=dev.tsv; repeatable (without any of "
        "validation: --validation_fraction of --files)",
    )
    add("--tfds_split", default="train", help="of a TFDS data set, train[:10%%] for example (default: %(default)s)")
    add("--skip_bad_records", action="store_true", help="leave out records that cannot be read, and count them")
    add(
        "--documents",
        default="file",
        help="documents of a .txt file: file, line or paragraph; Windows' line ends become \\n (default: %(default)s)",
    )
    add("--min_characters", type=int, default=0, help="leave out shorter documents (default: %(default)s)")
    add("--max_characters", type=int, help="leave out longer documents")
    add("--deduplicate", action="store_true", help="keep the first of documents with exactly the same text")
    add(
        "--layout",
        help="windows of concatenated documents; packed: whole documents side by side; pairs: one example of inputs "
        "and targets each (see --inputs_field); packed_pairs: several such side by side; labelled: one text, or pair "
        "of texts, and its label each (see --label_field), from .tsv, .csv, .jsonl, .parquet or .arrow (default: "
        "windows; pairs of rows to tune on, and of a SeqIO task that has inputs)",
    )
    add(
        "--max_inputs",
        type=int,
        default=2048,
        help="of pairs, tokens of the inputs, which are cut to it; of packed pairs, of all inputs in a row too "
        "(default: %(default)s)",
    )
    add("--max_targets", type=int, default=512, help="of pairs, likewise of the targets (default: %(default)s)")
    add("--window", type=int, help="tokens an example; not of pairs (default: 512, or that of --sequence_length)")
    add(
        "--gap",
        type=int,
        default=0,
        metavar="N",
        help="of packed, tokens left free between documents; 1 makes room for MaskedLM.add_special_tokens "
        "(default: %(default)s)",
    )
    add(
        "--vocabulary",
        help="bytes, sentencepiece (trained), a SentencePiece .model, a Hugging Face tokenizer.json, or a model's "
        "folder that holds one (default: sentencepiece)",
    )
    add("--vocabulary_size", type=int, default=32768, help="ids of a trained vocabulary (default: %(default)s)")
    add("--vocabulary_model", default="bpe", help="of a trained vocabulary: bpe or unigram (default: %(default)s)")
    add("--vocabulary_from", type=Path, metavar="STORE", help="take the vocabulary of another store")
    add("--add_mask", action="store_true", help="add a mask token, for masked language models")
    add("--add_modes", action="store_true", help="add UL2's mode tokens R, S and X")
    add("--add_sentinels", type=int, default=0, metavar="N", help="add N sentinels for span corruption (T5: 100)")
    add("--validation_fraction", type=float, default=0.05, help="of the documents (default: %(default)s)")
    add(
        "--hold_out", action="append", default=[], metavar="PATTERN",
        help="documents that go to a split 'test' beside 'validation': those whose file (path, name, name without "
        "suffixes, FILE:RECORD), id or task matches; repeatable",
    )  # fmt: skip
    add("--id_field", default="id", help="field or column that holds a document's id, for --hold_out (default: id)")
    add("--workers", type=int, help="processes that tokenize, or read --shards (default: one a core)")
    add("--runner", default=LOCAL, help="local, or beam: tokenize with Apache Beam, a file at a time (default: local)")
    add(
        "--beam_option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one of Beam's own, such as runner=DataflowRunner; repeatable (default: Beam's runner on this machine)",
    )
    add("--beam_folder", help="folder or URL (gs://...) for what Beam's workers hand over, if they are other machines")
    add("--overwrite", action="store_true", help="replace a store that is at --output")
    instructions.add_arguments(parser)
    groups.add_arguments(parser)
    seqio_prepare.add_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prepares the store and prints what it holds.

    Raises:
      UserError: see `triarch.prepare.pipeline.prepare`; an unknown task; flags that contradict each other.
    """
    from triarch.prepare.corpora.selection import Filters
    from triarch.prepare.pipeline import VocabularyChoice, prepare
    from triarch.prepare.vocabulary_choice import SENTENCEPIECE
    from triarch.tokenizers import ExtraIds

    provider = _own_task(args)
    if provider is not None:
        unused = (*_OF_CORPORA, *instructions.FLAGS, *groups.FLAGS)
        _check_unused(args, unused, "their vocabulary, text and splits are the task's own")
        return seqio_prepare.prepare_provider(args, provider)
    _check_unused(args, _OF_TASKS, f"{args.task} is text that triarch reads itself")
    start = time.monotonic()
    extra = ExtraIds(args.add_mask, args.add_modes, args.add_sentinels)
    if args.vocabulary is not None and args.vocabulary_from is not None:
        raise UserError(f"--vocabulary={args.vocabulary} beside --vocabulary_from={args.vocabulary_from}: name one")
    source = args.vocabulary or SENTENCEPIECE
    if args.layout == LABELLED:
        chosen = VocabularyChoice(source, args.vocabulary_size, args.vocabulary_model, args.vocabulary_from, extra)
        return _shown(_prepare_labelled(args, chosen), start)
    _check_unused(args, _OF_LABELLED, f"it is for --layout={LABELLED}")
    choice = VocabularyChoice(source, args.vocabulary_size, args.vocabulary_model, args.vocabulary_from, extra)
    if args.task == groups.TASK:
        _check_unused(args, (*_NOT_OF_GROUPS, *instructions.FLAGS), "it reads queries and passages")
        return _shown(groups.prepare(args, choice), start)
    _check_unused(args, groups.FLAGS, f"it is for --task={groups.TASK}")
    of_rows = args.task in instructions.TASKS
    _check_unused(
        args,
        _NOT_OF_ROWS if of_rows else instructions.FLAGS,
        "it reads rows to tune on" if of_rows else "it is plain text",
    )
    options: dict[str, Any] = {
        "window": args.window if args.window is not None else 512,
        "validation_fraction": args.validation_fraction,
        "workers": args.workers,
        "overwrite": args.overwrite,
        "show_progress": True,
        "layout": args.layout or ("pairs" if of_rows else "windows"),
        "lengths": {"inputs": args.max_inputs, "targets": args.max_targets},
        "filters": Filters(args.min_characters, args.max_characters, args.deduplicate),
        "gap": args.gap,
    }
    if args.task == instructions.FLAN:
        return instructions.prepare_flan(args, choice, options)
    corpus = _corpus(args, choice)
    store = prepare(
        corpus, args.task, args.output, choice, beam=_beam(args), hold_out=tuple(args.hold_out), **options
    )  # fmt: skip
    return _shown(store, start)


def _shown(store: TokenStore, start: float) -> dict[str, Any]:
    from triarch.cli.views.store_summary import summary

    seconds = time.monotonic() - start
    print(*summary(store), f"  in {seconds:.1f} s", sep="\n")
    return {"store": str(store.path), "seconds": seconds, "manifest": dataclasses.asdict(store.manifest)}


def _prepare_labelled(args: argparse.Namespace, vocabulary: VocabularyChoice) -> TokenStore:
    from triarch.prepare.corpora.files import matching
    from triarch.prepare.labelled import LabelledFiles, prepare_labelled

    if args.task != FILES_TASK or not args.files:
        raise UserError(f"--layout={LABELLED} reads files: give --task={FILES_TASK} and the texts with --files=PATTERN")
    if args.label_field is None:
        raise UserError(f"--layout={LABELLED} needs --label_field: which field or column holds the label?")
    _check_unused(args, _NOT_OF_LABELLED, f"it has none on --layout={LABELLED}")
    patterns: dict[str, list[str]] = {"train": list(args.files)}
    for given in args.split_files:
        split, _, pattern = given.partition("=")
        if not pattern or not split.isidentifier():
            raise UserError(f"--split_files={given}: expected SPLIT=PATTERN, as validation=dev.tsv")
        patterns.setdefault(split, []).append(pattern)
    paths = {
        split: tuple(dict.fromkeys(path for pattern in found for path in matching(pattern)))
        for split, found in patterns.items()
    }
    files = LabelledFiles(
        paths,
        args.text_field,
        args.label_field,
        args.pair_field,
        _names("columns", args.columns) or (),
        args.regression,
        _names("label_names", args.label_names),
        args.skip_bad_records,
    )
    if files.regression and files.names is not None:
        raise UserError("--regression beside --label_names: numbers have no names: give one of them")
    window = args.window if args.window is not None else 512
    fraction = args.validation_fraction
    return prepare_labelled(files, args.task, args.output, vocabulary, window, fraction, args.overwrite, True)


def _names(flag: str, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"--{flag}={text}: expected names that differ, with commas between them")
    return names


def _beam(args: argparse.Namespace) -> Beam | None:
    if args.runner == LOCAL:
        if args.beam_option or args.beam_folder:
            raise UserError(f"--beam_option and --beam_folder are for --runner={BEAM}")
        return None
    if args.runner != BEAM:
        raise UserError(f"--runner={args.runner}: unknown runner{nearest(args.runner, (LOCAL, BEAM))}")
    if args.workers is not None:
        raise UserError(f"--workers is for --runner={LOCAL}: Beam has options of its own")
    try:
        # Beam warns of every cloud whose libraries are not there.
        logging.disable(logging.WARNING)
        from triarch.prepare.beam import Beam
    except ModuleNotFoundError as error:
        raise UserError(f"--runner={BEAM} needs {error.name}: pip install 'triarch[tasks,beam]'") from None
    finally:
        logging.disable(logging.NOTSET)
    return Beam(tuple(args.beam_option), args.beam_folder)


def _corpus(args: argparse.Namespace, choice: VocabularyChoice) -> Corpus:
    if args.task == instructions.ROWS:
        return _with_options(instructions.rows_corpus(args, choice), args)
    if args.task != FILES_TASK and args.files:
        raise UserError(
            f"--files is for --task={FILES_TASK} and {instructions.ROWS}, and --task={args.task} has text of its own"
        )
    fields = {"text_field": args.text_field, "inputs_field": args.inputs_field}
    if args.task == FILES_TASK:
        from triarch.prepare.corpora.files import Files

        if not args.files:
            raise UserError("--task=files: give the text with --files=PATTERN")
        corpus: Corpus = Files.matching(args.files, unit=args.documents, **fields)
    elif args.task.startswith(TFDS_TASK):
        with quiet_tensorflow():
            from triarch.tasks.tfds_corpora import TfdsCorpus

            corpus = TfdsCorpus(args.task.removeprefix(TFDS_TASK), args.tfds_split, data_dir=args.data_dir, **fields)
    else:
        corpus = _registered(args.task)
    return _with_options(corpus, args)


def _registered(task: str) -> Corpus:
    from triarch.prepare.corpora.named import CORPORA

    if task in CORPORA:
        return CORPORA[task]
    from triarch.tasks.registry import corpus_of, get_task

    return corpus_of(get_task(task))


def _own_task(args: argparse.Namespace) -> seqio.Task | seqio.Mixture | None:
    """Returns the task or mixture that SeqIO is to read; None for text that triarch reads itself."""
    from triarch.prepare.corpora.named import CORPORA

    own = (FILES_TASK, groups.TASK, *instructions.TASKS)
    if args.task in own or args.task.startswith(TFDS_TASK) or args.task in CORPORA:
        return None
    import_seqio()
    from triarch.tasks.registry import find, is_corpus_task

    found = find(args.task, args.module)
    return None if is_corpus_task(found) else found


def _check_unused(args: argparse.Namespace, flags: Sequence[str], why: str) -> None:
    """Raises UserError if one of `flags`, which would be of no effect, was given."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for flag in flags:
        if getattr(args, flag) != parser.get_default(flag):
            raise UserError(f"--{flag} has no effect on --task={args.task}: {why}")


def _with_options(corpus: Corpus, args: argparse.Namespace) -> Corpus:
    """Returns the corpus with those of the flags that it has a use for."""
    if not dataclasses.is_dataclass(corpus):
        return corpus
    known = {field.name for field in dataclasses.fields(corpus)}
    options = {
        "data_dir": args.data_dir,
        "skip_bad_records": args.skip_bad_records,
        # Names are read only where they are asked for.
        "id_field": args.id_field if args.hold_out else None,
    }
    return dataclasses.replace(corpus, **{name: value for name, value in options.items() if name in known})

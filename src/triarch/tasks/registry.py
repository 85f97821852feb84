"""The SeqIO tasks triarch knows: `seqio.get_mixture_or_task(name)` finds them once this module is imported.

A task of plain text yields "targets": without a sequence length, whole documents, each ended by the end-of-document
token; with one, the windows of their concatenation that `triarch prepare` writes. That is what every objective starts
from. A task of examples (FLAN) yields "inputs" and "targets", both ended so.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import seqio
import tensorflow as tf

from triarch.data.store import TokenStore
from triarch.errors import UserError, nearest
from triarch.prepare.corpora.documents import Corpus, has_inputs
from triarch.prepare.corpora.named import CORPORA
from triarch.prepare.corpora.splits import DEFAULT_VALIDATION_FRACTION
from triarch.tasks.sources import CorpusSource
from triarch.tasks.vocabularies import seqio_vocabulary
from triarch.tokenizers import MODEL_FILE, ByteTokenizer, load_tokenizer

INPUTS = "inputs"
TARGETS = "targets"
# Tasks that `corpus_task` made, by name.
_CORPUS_TASKS: dict[str, seqio.Task] = {}


def corpus_task(
    name: str,
    corpus: Corpus,
    vocabulary: seqio.Vocabulary,
    validation_fraction: float = DEFAULT_VALIDATION_FRACTION,
    hold_out: tuple[str, ...] = (),
) -> seqio.Task:
    """Registers and returns the task of `corpus` under `name`; a task of that name is replaced."""
    if name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(name)
    tokenize = [
        functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
        seqio.preprocessors.append_eos,
    ]
    rekey = functools.partial(seqio.preprocessors.rekey, key_map={TARGETS: "text"})
    names = [INPUTS, TARGETS] if has_inputs(corpus) else [TARGETS]
    task = seqio.TaskRegistry.add(
        name,
        source=CorpusSource(corpus, validation_fraction, hold_out),
        preprocessors=tokenize if has_inputs(corpus) else [rekey, *tokenize, concatenate_and_cut],
        output_features={feature: seqio.Feature(vocabulary, add_eos=True) for feature in names},
    )
    _CORPUS_TASKS[name] = task
    return task


def store_task(name: str, store: TokenStore, corpus: Corpus) -> seqio.Task:
    """Registers and returns the task of `corpus` with the vocabulary and the splits of `store`."""
    vocabulary = seqio_vocabulary(load_tokenizer(store), store.vocabulary_folder / MODEL_FILE)
    source = store.manifest.source
    return corpus_task(name, corpus, vocabulary, source["validation_fraction"], tuple(source.get("hold_out", ())))


def concatenate_and_cut(dataset: tf.data.Dataset, sequence_length: Mapping[str, int] | None) -> tf.data.Dataset:
    """Concatenates the documents' targets and cuts windows of `sequence_length["targets"]`, dropping the remainder.

    Documents are left as they are where no length is given.
    """
    if not sequence_length or TARGETS not in sequence_length:
        return dataset
    tokens = dataset.map(lambda example: example[TARGETS])
    windows = tokens.rebatch(sequence_length[TARGETS], drop_remainder=True)
    return windows.map(lambda window: {TARGETS: window})


def get_task(name: str, modules: Sequence[str] = ()) -> seqio.Task:
    """Returns the registered task `name`.

    Raises:
      UserError: there is none, see `find`; it is a mixture.
    """
    found = find(name, modules)
    if not isinstance(found, seqio.Task):
        raise UserError(f"{name}: is a mixture, expected a task")
    return found


def find(name: str, modules: Sequence[str] = ()) -> seqio.Task | seqio.Mixture:
    """Returns the task or mixture that is registered as `name`; of both the mixture, as SeqIO does.

    Args:
      name: of a task or mixture.
      modules: that the user named, which had the chance to register it.

    Raises:
      UserError: there is none; names the nearest, and where it was looked for.
    """
    tasks, mixtures = seqio.TaskRegistry.names(), seqio.MixtureRegistry.names()
    if name not in {*tasks, *mixtures}:
        where = f"looked in {', '.join(modules)} and among triarch's own" if modules else "your own: --module=MODULE"
        raise UserError(
            f"unknown task {name!r}{nearest(name, [*tasks, *mixtures])}; {where}; local text: --task=files "
            "--files=PATTERN"
        )
    return seqio.get_mixture_or_task(name)


def is_corpus_task(task: seqio.Task) -> bool:
    """Whether `corpus_task` made the task, so that its text can be read and tokenized without SeqIO."""
    return _CORPUS_TASKS.get(task.name) is task


def corpus_of(task: seqio.Task) -> Corpus:
    """Returns the documents of `task`.

    Raises:
      UserError: its source is not one of triarch's.
    """
    if not isinstance(task.source, CorpusSource):
        raise UserError(f"task {task.name!r}: its source is a {type(task.source).__name__}, expected a CorpusSource")
    return task.source.corpus


def _register() -> None:
    vocabulary = seqio_vocabulary(ByteTokenizer())
    for name, corpus in CORPORA.items():
        corpus_task(name, corpus, vocabulary)


_register()

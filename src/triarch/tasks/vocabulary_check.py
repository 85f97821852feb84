"""Whether a SeqIO task's vocabulary is a model's, told by what both do."""

from __future__ import annotations

from collections.abc import Sequence

import seqio

from triarch.errors import UserError
from triarch.tokenizers import Tokenizer

# Any two vocabularies that were not made alike differ on one of these.
_PROBES = (
    "The quick brown fox",
    "Hello, world! It's 1984.",
    "def mean(values): return sum(values)",
    "Z\u00fcrich \u2013 \u5317\u4eac",
    "a",
)
_HINT = "register the task with the model's vocabulary (docs/evaluating_tasks.md)"
_FEATURES = ("inputs", "targets")


def check_vocabularies(task: seqio.Task, tokenizer: Tokenizer, ends: Sequence[int], size: int) -> None:
    """Makes sure that a task's ids mean to a model what they mean to the task.

    A vocabulary that passes ids through is only asked for its size and its end.

    Args:
      task: with features "inputs" and "targets", or "targets" alone.
      tokenizer: of the model.
      ends: ids that each end a text of the model.
      size: ids that the model knows.

    Raises:
      UserError: they do not; says where they differ.
    """
    for name in _FEATURES:
        if name not in task.output_features:
            continue
        own, where = task.output_features[name].vocabulary, f"task {task.name}: the vocabulary of its {name}"
        if own.eos_id is not None and own.eos_id not in ends:
            raise UserError(f"{where} ends texts with id {own.eos_id}, the model with {ends[0]}: {_HINT}")
        if own.vocab_size > size:
            raise UserError(f"{where} has {own.vocab_size:,} ids, the model knows {size:,}: {_HINT}")
        if isinstance(own, seqio.PassThroughVocabulary):
            continue
        for text in _PROBES:
            theirs, ours = list(own.encode(text)), tokenizer.encode(text).tolist()
            if theirs != ours:
                raise UserError(f"{where} reads {text!r} as {_short(theirs)}, the model's as {_short(ours)}: {_HINT}")


def _short(ids: Sequence[int]) -> str:
    return f"[{', '.join(map(str, ids[:6]))}{', ...' if len(ids) > 6 else ''}]"

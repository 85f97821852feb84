"""Objectives as SeqIO preprocessors: the numpy functions that triarch trains with, for SeqIO's own users.

Importing this registers "CORPUS.OBJECTIVE" for every corpus of plain text and every objective of `NAMED`, on bytes with
T5's 100 sentinels, a mask and UL2's mode tokens; `objective_task` registers others.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from triarch.errors import UserError
from triarch.objectives import (
    T5GEMMA2,
    UL2,
    MaskedLM,
    Objective,
    PrefixLM,
    SpanCorruption,
    SpecialTokens,
    largest_window,
)
from triarch.objectives.base import PairFunction
from triarch.prepare.corpora.documents import has_inputs
from triarch.prepare.corpora.named import CORPORA
from triarch.tasks.registry import INPUTS, TARGETS, concatenate_and_cut, corpus_task
from triarch.tasks.vocabularies import seqio_vocabulary
from triarch.tokenizers import ByteTokenizer
from triarch.tokenizers.extra_ids import ExtraIds, with_extra_ids

NAMED: Mapping[str, Objective] = {
    "span_corruption": SpanCorruption(),
    "prefix_lm": PrefixLM(),
    "prefix_lm_t5": PrefixLM(split="uniform", append_eos=True),
    "ul2": UL2,
    "t5gemma2": T5GEMMA2,
    "masked_lm": MaskedLM(),
}
_T5_SENTINELS = 100


def to_pairs(
    dataset: tf.data.Dataset,
    sequence_length: Mapping[str, int] | None,
    output_features: Mapping[str, seqio.Feature],
    *,
    objective: Objective,
    special: SpecialTokens,
) -> tf.data.Dataset:
    """Turns documents into the inputs and targets of an objective, which SeqIO's feature converters take.

    The documents are concatenated and cut into the longest windows whose inputs and targets always fit, as T5 does: 568
    tokens for 512 inputs and at least 114 targets of span corruption. End-of-document tokens are part of the result.
    A masked language model's inputs are its targets with some tokens hidden (`seqio.EncoderFeatureConverter`, which
    scores the mask tokens only).

    Args:
      dataset: {"targets": int32[tokens]}, whole documents.
      sequence_length: the most "inputs" and "targets" may have.
      output_features: of the task; the vocabulary of "targets" counts.
      objective: one with inputs and targets, or `MaskedLM`.
      special: of the vocabulary.

    Raises:
      UserError: no lengths are given, none fits, the objective has no inputs and targets, or a special token is
        missing.
    """
    if not sequence_length or not {INPUTS, TARGETS} <= sequence_length.keys():
        raise UserError(f'objective {objective.name} needs sequence_length of "{INPUTS}" and "{TARGETS}"')
    if isinstance(objective, MaskedLM):
        window = min(sequence_length[INPUTS], sequence_length[TARGETS])
        pair = _masked_pair(objective, special, output_features[TARGETS].vocabulary.vocab_size, window)
    elif hasattr(objective, "pair"):
        lengths = {"encoder": sequence_length[INPUTS], "decoder": sequence_length[TARGETS]}
        window = largest_window(objective, "encoder-decoder", lengths)
        pair = objective.pair(special, window)
    else:
        raise UserError(f"objective {objective.name} has no inputs and targets: see features_task")

    def run(tokens: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return dict(zip((INPUTS, TARGETS), pair(tokens, rng), strict=True))

    types = {INPUTS: tf.TensorSpec([None], tf.int32), TARGETS: tf.TensorSpec([None], tf.int32)}
    return _map_windows(dataset, window, run, types)


def to_features(
    dataset: tf.data.Dataset,
    output_features: Mapping[str, seqio.Feature],
    *,
    objective: Objective,
    architecture: str,
    special: SpecialTokens,
    window: int,
) -> tf.data.Dataset:
    """Turns documents into the very features that triarch trains on (with `seqio.PassThroughFeatureConverter`).

    Args:
      dataset: {"targets": int32[tokens]}, whole documents.
      output_features: of the task: the model's features, all of one vocabulary.
      objective: any.
      architecture: "encoder-only", "decoder-only" or "encoder-decoder".
      special: of the vocabulary.
      window: tokens of the windows into which the concatenated documents are cut.

    Raises:
      UserError: the objective makes no sense for the architecture or the window, or lacks a special token.
    """
    vocab_size = next(iter(output_features.values())).vocabulary.vocab_size
    transform = objective.bind(architecture, special, vocab_size, window).features
    made = _probe(objective, architecture, special, vocab_size, window)
    types = {name: tf.TensorSpec(value.shape, value.dtype) for name, value in made.items()}
    return _map_windows(dataset, window, lambda tokens, rng: transform({"tokens": tokens}, rng), types)


def objective_task(
    task: seqio.Task, objective: Objective, special: SpecialTokens, name: str | None = None
) -> seqio.Task:
    """Registers and returns the task of `task`'s documents under `objective`; a task of that name is replaced.

    Args:
      task: of plain text, as `corpus_task` and `store_task` return.
      objective: see `to_pairs`.
      special: of the task's vocabulary.
      name: "TASK.OBJECTIVE" if None.

    Raises:
      UserError: the task has inputs of its own.
    """
    feature = task.output_features[TARGETS]
    return _add(
        name or f"{task.name}.{objective.name}",
        task,
        functools.partial(to_pairs, objective=objective, special=special),
        {INPUTS: feature, TARGETS: feature},
    )


def features_task(
    task: seqio.Task, objective: Objective, architecture: str, special: SpecialTokens, window: int, name: str
) -> seqio.Task:
    """Registers and returns the task whose examples are a model's features; a task of that name is replaced.

    Args:
      task: of plain text, as `corpus_task` and `store_task` return.
      objective: any.
      architecture: "encoder-only", "decoder-only" or "encoder-decoder".
      special: of the task's vocabulary.
      window: tokens of the windows into which the concatenated documents are cut.
      name: of the new task.

    Raises:
      UserError: the task has inputs of its own, or the objective does not fit.
    """
    vocabulary = task.output_features[TARGETS].vocabulary
    options: dict[str, Any] = dict(objective=objective, architecture=architecture, special=special, window=window)
    made = _probe(objective, architecture, special, vocabulary.vocab_size, window)
    features = {
        key: seqio.Feature(vocabulary, add_eos=False, dtype=tf.as_dtype(value.dtype)) for key, value in made.items()
    }
    return _add(name, task, functools.partial(to_features, **options), features)


def _add(
    name: str,
    task: seqio.Task,
    last: Callable[..., tf.data.Dataset],
    output_features: Mapping[str, seqio.Feature],
) -> seqio.Task:
    if concatenate_and_cut not in task.preprocessors:
        raise UserError(f"task {task.name!r} is not plain text: its inputs and targets are given")

    def documents(dataset: tf.data.Dataset) -> tf.data.Dataset:
        # With the features of the plain task, for the new one may have none called "targets".
        for step in task.preprocessors:
            if step is not concatenate_and_cut:
                takes_features = "output_features" in inspect.signature(step).parameters
                dataset = step(dataset, **({"output_features": task.output_features} if takes_features else {}))
        return dataset

    if name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(name)
    return seqio.TaskRegistry.add(
        name, source=task.source, preprocessors=[documents, last], output_features=dict(output_features)
    )


def _probe(
    objective: Objective, architecture: str, special: SpecialTokens, vocab_size: int, window: int
) -> Mapping[str, np.ndarray]:
    """Returns features of some tokens: all windows give such names, shapes and types."""
    transform = objective.bind(architecture, special, vocab_size, window).features
    return transform({"tokens": np.full(window, special.eos, np.int32)}, np.random.default_rng(0))


def _masked_pair(objective: MaskedLM, special: SpecialTokens, vocab_size: int, window: int) -> PairFunction:
    transform = objective.transform("encoder-only", special, vocab_size, window)

    def pair(tokens: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        features = transform({"tokens": tokens}, rng)
        return features["encoder_input_tokens"], features["encoder_target_tokens"]

    return pair


def _map_windows(
    dataset: tf.data.Dataset,
    window: int,
    run: Callable[[np.ndarray, np.random.Generator], Mapping[str, np.ndarray]],
    types: Mapping[str, tf.TensorSpec],
) -> tf.data.Dataset:
    def call(tokens: np.ndarray, seed: np.ndarray) -> list[np.ndarray]:
        made = run(tokens, np.random.default_rng(seed.view(np.uint32)))
        return [made[name] for name in types]

    @seqio.map_over_dataset(num_seeds=1)
    def map_one(example: Mapping[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        values = tf.numpy_function(call, [example[TARGETS], seed], [spec.dtype for spec in types.values()])
        return {name: tf.ensure_shape(value, types[name].shape) for name, value in zip(types, values, strict=True)}

    return map_one(concatenate_and_cut(dataset, {TARGETS: window}))


def _register() -> None:
    tokenizer = with_extra_ids(ByteTokenizer(), ExtraIds(modes=True, sentinels=_T5_SENTINELS))
    special = SpecialTokens.from_manifest(tokenizer.info.special)
    for corpus_name, corpus in CORPORA.items():
        if has_inputs(corpus):
            continue
        text = corpus_task(f"{corpus_name}.text", corpus, seqio_vocabulary(tokenizer))
        for name, objective in NAMED.items():
            objective_task(text, objective, special, f"{corpus_name}.{name}")
        seqio.TaskRegistry.remove(text.name)


_register()

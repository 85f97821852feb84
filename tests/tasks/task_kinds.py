"""Tasks of the kinds that T5X's users have: T5's and UL2's pretraining, GLUE, FLAN, promptsource, all of their own."""

from __future__ import annotations

import functools
from pathlib import Path

import jinja2
import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

LENGTHS = {"inputs": 30, "targets": 18}
BYTES = seqio.ByteVocabulary(extra_ids=30)
# Of bytes with extra ids: sentinels fall from the last id, and three ids below them are UL2's modes.
_SENTINEL = BYTES.vocab_size - 1
_MODES = {"R": 265, "S": 264, "X": 263}
SENTENCES = [f"number {number} is followed by {number + 1}, not by {number * 7 % 50}." for number in range(40)]


class Shouts(seqio.DataSource):
    """A user's own source: two shards, and what there is in each is computed."""

    supports_arbitrary_sharding = False

    def __init__(self):
        super().__init__(splits=("train",), num_input_examples={"train": 24})

    def list_shards(self, split):
        return ["even", "odd"]

    def get_dataset(self, split="train", shuffle=True, seed=None, shard_info=None):
        numbers = tf.data.Dataset.range(24)
        if shard_info is not None:
            numbers = numbers.shard(shard_info.num_shards, shard_info.index)
        return numbers.map(
            lambda number: {
                "inputs": tf.strings.join(["shout ", tf.strings.as_string(number)]),
                "targets": tf.repeat("HA ", number % 4 + 1),
            }
        ).map(lambda example: example | {"targets": tf.strings.reduce_join(example["targets"])})


class Words(seqio.Vocabulary):
    """A user's own vocabulary, in Python: words get ids by their letters."""

    eos_id, unk_id = 1, 2
    _base_vocab_size = 500

    def _encode(self, s):
        return [3 + sum(map(ord, word)) % 490 for word in s.split()]

    def _decode(self, ids):
        return " ".join(f"w{index}" for index in ids)

    def _encode_tf(self, s):
        ids = tf.numpy_function(lambda text: np.array(self._encode(text.decode()), np.int32), [s], tf.int32)
        return tf.ensure_shape(ids, [None])

    def _decode_tf(self, ids):
        raise NotImplementedError


def pieces(dataset, sequence_length, output_features, length):
    """Concatenates all texts and cuts pieces, as T5's pretraining does."""
    tokens = dataset.map(lambda example: example["targets"])
    return tokens.rebatch(length, drop_remainder=True).map(lambda piece: {"targets": piece})


def _hidden(tokens, noise, keep):
    """Returns tokens with each stretch of noise (of what is not noise, for keep=False) in place of one sentinel."""
    hide = noise if keep else tf.logical_not(noise)
    first = tf.logical_and(hide, tf.logical_not(tf.concat([[False], hide[:-1]], 0)))
    sentinels = _SENTINEL + 1 - tf.cumsum(tf.cast(first, tf.int32))
    marked = tf.where(first, sentinels, tokens)
    return tf.boolean_mask(marked, tf.logical_or(first, tf.logical_not(hide)))


def _noise(length, share, mean_span, seed):
    """Returns a random mask of spans: where a walk of random steps is in an odd one."""
    seed = tf.stack(seed)
    steps = tf.random.stateless_uniform([length], seed) < 1.0 / mean_span
    odd = tf.cumsum(tf.cast(steps, tf.int32)) % 2 == 1
    return tf.logical_and(odd, tf.random.stateless_uniform([length], seed + 1) < 2 * share)


@seqio.map_over_dataset(num_seeds=1)
def span_corrupted(example, seed):
    tokens = example["targets"]
    noise = _noise(tf.size(tokens), 0.25, 3.0, seed)
    return {"inputs": _hidden(tokens, noise, True), "targets": _hidden(tokens, noise, False)}


@seqio.map_over_dataset(num_seeds=1)
def split_at_random(example, seed):
    tokens = example["targets"]
    at = tf.random.stateless_uniform([], seed, 1, tf.size(tokens), tf.int32)
    return {"inputs": tokens[:at], "targets": tokens[at:]}


@seqio.map_over_dataset(num_seeds=2)
def mixture_of_denoisers(example, seeds):
    """UL2 in small: short spans, long spans or a prefix, drawn for each piece, behind the token of the mode."""
    tokens = example["targets"]

    def spans(mode, share, mean_span):
        noise = _noise(tf.size(tokens), share, mean_span, seeds[0])
        return tf.concat([[_MODES[mode]], _hidden(tokens, noise, True)], 0), _hidden(tokens, noise, False)

    def prefix():
        at = tf.random.stateless_uniform([], seeds[0], 4, tf.size(tokens) - 4, tf.int32)
        return tf.concat([[_MODES["S"]], tokens[:at], [_SENTINEL]], 0), tokens[at:]

    branches = [lambda: spans("R", 0.15, 3.0), lambda: spans("X", 0.5, 8.0), prefix]
    which = tf.random.stateless_uniform([], seeds[1], 0, len(branches), tf.int32)
    inputs, targets = tf.switch_case(which, branches)
    return {"inputs": inputs, "targets": targets}


@seqio.map_over_dataset
def entailment(example):
    """GLUE's text to text, with what its metrics read beside it."""
    names = tf.constant(["entailment", "neutral", "contradiction"])
    parts = ["mnli hypothesis: ", example["hypothesis"], " premise: ", example["premise"]]
    return {"inputs": tf.strings.join(parts), "targets": tf.gather(names, example["label"]), "idx": example["idx"]}


TEMPLATES = [
    ("{premise}\n\nDoes it follow that {hypothesis}?", "{label}"),
    ("Premise: {premise} Hypothesis: {hypothesis} OPTIONS: yes, maybe, no", "It is {label}"),
    ("Write a sentence about: {hypothesis}", "{premise}"),
]


@seqio.map_over_dataset(num_seeds=1)
def templated(example, seed):
    """FLAN in small: a template drawn for each example and each epoch."""
    fields = {
        "premise": example["premise"],
        "hypothesis": example["hypothesis"],
        "label": tf.gather(tf.constant(["yes", "maybe", "no"]), example["label"]),
    }

    def filled(side):
        texts = []
        for template in TEMPLATES:
            text = tf.constant(template[side])
            for name, value in fields.items():
                # What is put in may hold a backslash, which is a reference to the pattern.
                escaped = tf.strings.regex_replace(value, r"\\", r"\\\\")
                text = tf.strings.regex_replace(text, r"\{" + name + r"\}", escaped)
            texts.append(text)
        return tf.stack(texts)

    which = tf.random.stateless_uniform([], seed, 0, len(TEMPLATES), tf.int32)
    return {"inputs": filled(0)[which], "targets": filled(1)[which]}


def prompted(split, shuffle_files, seed=None):
    """promptsource in small, as T0's tasks have it: a function that renders a jinja template of each row, in Python."""
    template = jinja2.Template(
        "{{ text.rstrip('.') | upper }}{% if number is odd %} (odd){% endif %} ||| {{ choices[number % 2] }}"
    )

    def rows():
        for number, text in enumerate(SENTENCES if split == "train" else SENTENCES[:5]):
            sides = template.render(text=text, number=number, choices=["even", "odd"]).split(" ||| ")
            yield dict(zip(("inputs", "targets"), sides, strict=True)) | {"answer_choices": ["even", "odd"]}

    text = tf.TensorSpec([], tf.string)
    signature = {"inputs": text, "targets": text, "answer_choices": tf.TensorSpec([None], tf.string)}
    return tf.data.Dataset.from_generator(rows, output_signature=signature)


def write_entailment(folder: Path) -> None:
    """Writes a data set of the form of GLUE's MNLI, as TFDS itself does."""
    features = {
        "premise": tfds.features.Text(), "hypothesis": tfds.features.Text(),
        "label": tfds.features.ClassLabel(names=["entailment", "neutral", "contradiction"]), "idx": np.int32,
    }  # fmt: skip
    rows = [
        (
            number,
            {"premise": text, "hypothesis": SENTENCES[number - 1][:12] + " \\1", "label": number % 3, "idx": number},
        )
        for number, text in enumerate(SENTENCES)
    ]
    tfds.disable_progress_bar()
    tfds.dataset_builders.store_as_tfds_dataset(
        name="small_mnli", version="1.0.0", features=tfds.features.FeaturesDict(features),
        split_datasets={"train": rows, "validation": rows[:7]}, data_dir=str(folder),
    )  # fmt: skip


def register(folder: Path) -> list[str]:
    """Registers a task of each kind, of files written to `folder`; returns their names."""
    write_entailment(folder)
    (folder / "sentences.txt").write_text("\n".join(SENTENCES) + "\n")
    text = seqio.TextLineDataSource({"train": str(folder / "sentences.txt")})
    table = seqio.TfdsDataSource("small_mnli:1.0.0", tfds_data_dir=str(folder))
    to_text = seqio.map_over_dataset(lambda line: {"targets": line})
    tokenize, end = seqio.preprocessors.tokenize, seqio.preprocessors.append_eos
    cut = functools.partial(pieces, length=28)
    placeholder = seqio.CacheDatasetPlaceholder()
    kinds = {
        "span_corruption": (text, [to_text, tokenize, placeholder, cut, span_corrupted, end], BYTES),
        "prefix_lm": (text, [to_text, tokenize, placeholder, cut, split_at_random, end], BYTES),
        "ul2": (text, [to_text, tokenize, placeholder, cut, mixture_of_denoisers, end], BYTES),
        "glue": (table, [entailment, tokenize, placeholder, seqio.preprocessors.append_eos_after_trim], BYTES),
        "flan": (table, [templated, tokenize, end], BYTES),
        "promptsource": (
            seqio.FunctionDataSource(prompted, splits=["train", "validation"]),
            [tokenize, placeholder, end],
            BYTES,
        ),
        "own": (Shouts(), [tokenize, end], Words()),
    }
    for name, (source, steps, vocabulary) in kinds.items():
        if f"kind_{name}" in seqio.TaskRegistry.names():
            seqio.TaskRegistry.remove(f"kind_{name}")
        features = {side: seqio.Feature(vocabulary) for side in LENGTHS}
        seqio.TaskRegistry.add(f"kind_{name}", source, features, preprocessors=steps)
    return list(kinds)

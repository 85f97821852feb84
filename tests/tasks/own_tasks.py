"""SeqIO tasks as users have them: every kind of source, of preprocessor and of vocabulary, on small files."""

from __future__ import annotations

import functools
from pathlib import Path

import seqio
import tensorflow as tf

from tests.tokenizers.texts import small_sentencepiece

LINES = [f"question {number}: how much is {number} and {number * number}?" for number in range(40)]
BYTES = seqio.ByteVocabulary(extra_ids=20)
PAIRS = ("inputs", "targets")
OF_BYTES = {side: seqio.Feature(BYTES) for side in PAIRS}


class Letters(seqio.Vocabulary):
    """A user's own: one id a letter, and no end of a text."""

    eos_id = unk_id = None
    _base_vocab_size = 27

    def _encode(self, s):
        return [1 + ord(letter) - ord("a") for letter in s.lower() if "a" <= letter <= "z"]

    def _decode(self, ids):
        return "".join(chr(ord("a") + index - 1) for index in ids if index)

    def _encode_tf(self, s):
        codes = tf.cast(tf.io.decode_raw(tf.strings.lower(s), tf.uint8), tf.int32) - ord("a") + 1
        return tf.boolean_mask(codes, (codes > 0) & (codes < 27))

    def _decode_tf(self, ids):
        raise NotImplementedError


class Countdown(seqio.DataSource):
    """A user's own source: numbers in words."""

    def __init__(self):
        super().__init__(splits=("train", "validation"), num_input_examples={"train": 30, "validation": 5})

    supports_arbitrary_sharding = False

    def list_shards(self, split):
        return [split]

    def get_dataset(self, split="train", shuffle=True, seed=None, shard_info=None):
        numbers = tf.data.Dataset.range(self.num_input_examples(split), 0, -1)
        return numbers.map(lambda number: {"text": tf.strings.join(["number ", tf.strings.as_string(number)])})


def lines(split, shuffle_files):
    """A function source that takes no seed."""
    chosen = LINES if split == "train" else LINES[:4]
    return tf.data.Dataset.from_tensor_slices({"text": chosen})


def ask(dataset):
    """Makes inputs and targets of a text."""
    split = functools.partial(tf.strings.split, sep=": ", maxsplit=1)
    return dataset.map(lambda example: {"inputs": split(example["text"])[0], "targets": split(example["text"])[-1]})


@seqio.map_over_dataset(num_seeds=2)
def draw(example, seeds):
    """Swaps sides at random, and puts a random number before the inputs."""
    number = tf.random.stateless_uniform([], seeds[0], 0, 1000, tf.int32)
    swap = tf.random.stateless_uniform([], seeds[1]) < 0.5
    inputs, targets = (tf.where(swap, example[b], example[a]) for a, b in (PAIRS, PAIRS[::-1]))
    return {"inputs": tf.strings.join([tf.strings.as_string(number), " ", inputs]), "targets": targets}


def thrice(dataset):
    """Makes three examples of one."""
    return dataset.flat_map(lambda example: tf.data.Dataset.from_tensors(example).repeat(3))


def corrupt(dataset, sequence_length, output_features):
    """T5's span corruption in small: concatenates, cuts pieces as long as inputs may be, hides the middle of each."""
    sentinel = output_features["inputs"].vocabulary.vocab_size - 1
    pieces = dataset.map(lambda example: example["targets"]).rebatch(sequence_length["inputs"], drop_remainder=True)

    @seqio.map_over_dataset(num_seeds=1)
    def hide(tokens, seed):
        start = tf.random.stateless_uniform([], seed, 1, sequence_length["inputs"] - 6, tf.int32)
        end = start + 4
        return {
            "inputs": tf.concat([tokens[:start], [sentinel], tokens[end:]], 0),
            "targets": tf.concat([[sentinel], tokens[start:end]], 0),
        }

    return hide(pieces)


def register(folder: Path) -> None:
    """Registers all tasks and mixtures, of files that are written to `folder`."""
    for name in [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]:
        if name.startswith("own_"):
            (seqio.TaskRegistry if name in seqio.TaskRegistry.names() else seqio.MixtureRegistry).remove(name)
    for shard in range(3):
        (folder / f"text-{shard}-of-3.txt").write_text("\n".join(LINES[shard::3]) + "\n")
    with tf.io.TFRecordWriter(str(folder / "train.tfrecord")) as writer:
        for number in range(25):
            ids = {"inputs": range(3, 3 + number % 7), "targets": range(10, 12 + number)}
            feature = {name: tf.train.Feature(int64_list=tf.train.Int64List(value=ids[name])) for name in ids}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    (folder / "small.model").write_bytes(small_sentencepiece("bpe", 420).model)
    sentencepiece = seqio.SentencePieceVocabulary(str(folder / "small.model"), extra_ids=100)
    text = seqio.TextLineDataSource({"train": str(folder / "text-*-of-3.txt")})
    sequence = tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
    records = seqio.TFExampleDataSource({"train": str(folder / "train.tfrecord")}, dict.fromkeys(PAIRS, sequence))
    function = seqio.FunctionDataSource(lines, ["train", "validation"], num_input_examples={"train": 40})
    rekey = functools.partial(seqio.preprocessors.rekey, key_map={"targets": "text"})
    parse = seqio.map_over_dataset(lambda line: {"text": line})
    tokenize, end, late_end = (
        seqio.preprocessors.tokenize,
        seqio.preprocessors.append_eos,
        seqio.preprocessors.append_eos_after_trim,
    )

    def add(name, source, preprocessors, vocabulary, features=PAIRS, **options):
        made = {feature: seqio.Feature(vocabulary, **options) for feature in features}
        seqio.TaskRegistry.add(f"own_{name}", source, made, preprocessors=preprocessors)

    add("function", function, [ask, tokenize, seqio.CacheDatasetPlaceholder(), late_end], BYTES)
    add("random", function, [ask, draw, tokenize, end], BYTES)
    add("thrice", text, [parse, ask, thrice, tokenize, end], sentencepiece)
    add("corrupted", text, [parse, rekey, tokenize, corrupt, end], sentencepiece)
    add("text", text, [parse, rekey, tokenize, end], sentencepiece, ["targets"])
    add("records", records, [], seqio.PassThroughVocabulary(64), dtype=tf.int64, add_eos=False)
    add("source", Countdown(), [rekey, tokenize], Letters(), ["targets"], add_eos=False)
    unigrams = seqio.UnigramVocabulary(["number", "1", "2", "3"], split_on_space=True)
    add("unigrams", Countdown(), [rekey, tokenize], unigrams, ["targets"], add_eos=False)
    partial = seqio.PartialCodepointVocabulary([ord(letter) for letter in "numbetr 0123456789"])
    add("partial", Countdown(), [rekey, tokenize, end], partial, ["targets"])
    by_size = functools.partial(seqio.mixing_rate_num_examples, maximum=20, temperature=2.0)
    seqio.MixtureRegistry.add("own_inner", [("own_function", 3), ("own_random", 1)])
    seqio.MixtureRegistry.add("own_mixture", [("own_inner", 2), ("own_function", by_size)])

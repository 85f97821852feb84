"""SeqIO's own datasets and feature converters, with the same seed, are the reference for a store of any task."""

import json

import numpy as np
import pytest
import seqio
import tensorflow as tf

from tests.tasks import own_tasks
from triarch.errors import UserError
from triarch.objectives import SpecialTokens, Supervised
from triarch.prepare import examples
from triarch.prepare.examples import prepare_examples
from triarch.tasks.any_task import TaskExamples, TaskOptions
from triarch.tokenizers import ExtraIds, load_tokenizer

LENGTHS = {"inputs": 24, "targets": 20}
OF_PAIRS = ["function", "random", "thrice", "corrupted", "records"]
OF_TARGETS = ["text", "source", "unigrams", "partial"]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    own_tasks.register(folder)
    return folder


def prepared(path, name, layout="pairs", window=0, **options):
    task = seqio.TaskRegistry.get(f"own_{name}")
    return prepare_examples(TaskExamples(task, TaskOptions(**options)), path, layout, window)


def seqio_examples(name, lengths=None, split="train", seed=0, num_epochs=1):
    task = seqio.TaskRegistry.get(f"own_{name}")
    # SeqIO gives a function that takes no seed none, or refuses it; preprocessors get theirs all the same.
    if isinstance(task.source, seqio.FunctionDataSource):

        def lines(split, shuffle_files, seed=None):
            return own_tasks.lines(split, shuffle_files)

        with_seed = seqio.FunctionDataSource(lines, task.source.splits)
        task = task.replace(source=with_seed)
    dataset = task.get_dataset(lengths, split, shuffle=False, seed=seed, num_epochs=num_epochs)
    return list(dataset.as_numpy_iterator())


def stored(store, split="train"):
    reader = store.split(split)
    return [reader[index] for index in range(len(reader))]


@pytest.mark.parametrize("name", OF_PAIRS)
def test_pairs_are_seqios(tmp_path, name):
    store = prepared(tmp_path / "store", name, sequence_length=LENGTHS, seed=7)
    ours, theirs = stored(store), seqio_examples(name, LENGTHS, seed=7)
    theirs = [example for example in theirs if len(example["inputs"]) + len(example["targets"])]
    assert len(ours) == len(theirs) > 20
    for one, other in zip(ours, theirs, strict=True):
        for side in LENGTHS:
            np.testing.assert_array_equal(one[side], other[side])


@pytest.mark.parametrize("name", OF_TARGETS)
def test_windows_are_seqios_tokens_one_after_another(tmp_path, name):
    store = prepared(tmp_path / "store", name, "windows", 16, splits=("train",))
    stream = np.concatenate([example["targets"] for example in seqio_examples(name)])
    windows = np.concatenate([example["tokens"] for example in stored(store)])
    np.testing.assert_array_equal(windows, stream[: len(windows)])
    assert store.manifest.splits["train"].dropped_tokens == len(stream) - len(windows) < 16


def test_packed_rows_hold_whole_examples(tmp_path):
    store = prepared(tmp_path / "store", "function", "packed", 128, splits=("train",))
    found = []
    for row in stored(store):
        found += [
            tuple(row["tokens"][row["segment_ids"] == number]) for number in range(1, row["segment_ids"].max() + 1)
        ]
    expected = [(*example["inputs"], *example["targets"]) for example in seqio_examples("function")]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("architecture", ["encoder-decoder", "decoder-only"])
def test_features_are_those_of_seqios_converters(tmp_path, architecture):
    """A task that did span corruption in SeqIO trains as it is."""
    store = prepared(tmp_path / "store", "corrupted", sequence_length=LENGTHS, seed=3)
    objective = Supervised(LENGTHS["inputs"], LENGTHS["targets"], bidirectional_prefix=True)
    vocabulary = store.manifest.vocabulary
    special = SpecialTokens.from_manifest(vocabulary.special)
    transform = objective.transform(architecture, special, vocabulary.size, store.manifest.window)
    both = architecture == "encoder-decoder"
    converter = seqio.EncDecFeatureConverter(pack=False) if both else seqio.PrefixLMFeatureConverter(pack=False)
    theirs = seqio.get_dataset(
        "own_corrupted", LENGTHS, dataset_split="train", shuffle=False, seed=3, feature_converter=converter
    ).as_numpy_iterator()
    count = 0
    for example, expected in zip(stored(store), theirs, strict=True):
        made = transform(example, np.random.default_rng(0))
        for name, value in expected.items():
            np.testing.assert_array_equal(made[name], value, err_msg=name)
        count += 1
    assert count > 20


def test_epochs_draw_anew(tmp_path):
    store = prepared(tmp_path / "store", "random", sequence_length=LENGTHS, num_epochs=2, splits=("train",))
    ours, theirs = stored(store), seqio_examples("random", LENGTHS, num_epochs=2)
    assert len(ours) == 80
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one["inputs"], other["inputs"])
    assert any(one["inputs"].tolist() != two["inputs"].tolist() for one, two in zip(ours[:40], ours[40:], strict=True))


def test_order_and_counts(tmp_path):
    """What is cut is counted, what is empty is left out, and each row says which example of the task it is."""
    store = prepared(tmp_path / "store", "thrice", "packed_pairs", sequence_length=LENGTHS, max_examples=50)
    whole = seqio_examples("thrice")[:50]
    split = store.manifest.splits["train"]
    assert split.documents == 50
    longer = [any(len(example[side]) > most for side, most in LENGTHS.items()) for example in whole]
    assert store.manifest.source["cut_documents"] == sum(longer)
    provenance = store.provenance("train")
    pieces = provenance.pieces(np.arange(split.examples))
    assert provenance.sources == ["own_thrice[train]"]
    assert sorted(pieces.record) == sorted([*range(50), *range(50)])
    for row, example in enumerate(stored(store)):
        first = example["tokens"][example["segment_ids"] == 1][: example["num_inputs"][0]]
        record = pieces.record[np.flatnonzero(pieces.place == row)[0]]
        np.testing.assert_array_equal(first, whole[record]["inputs"][: LENGTHS["inputs"]])


def test_empty_examples_are_left_out(tmp_path):
    def emptied(example):
        return {side: tokens[: 99 * (1 - tf.size(example["inputs"]) % 2)] for side, tokens in example.items()}

    task = seqio.TaskRegistry.get("own_records")
    some = task.replace(name="own_some_empty", preprocessors=[seqio.map_over_dataset(emptied)])
    store = prepare_examples(TaskExamples(some, TaskOptions(sequence_length=LENGTHS)), tmp_path / "store", "pairs", 0)
    left_out = store.manifest.source["left_out"]["empty"]
    assert store.manifest.splits["train"].documents + left_out["count"] == 25
    assert left_out["first"][0].startswith("own_some_empty[train]:")


def test_an_interrupted_store_resumes_with_the_same_bytes(tmp_path, monkeypatch):
    options = dict(sequence_length=LENGTHS, num_epochs=8, splits=("train",))
    whole = prepared(tmp_path / "whole", "random", **options)
    monkeypatch.setattr(examples, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr("triarch.data.partial.KEPT_AFTER_SECONDS", 0)
    taken = []
    blocks = TaskExamples.blocks

    def interrupted(self, split, first):
        for number, block in enumerate(blocks(self, split, first)):
            if not taken and number == 2:
                taken.append(first)
                raise KeyboardInterrupt
            yield block
        taken.append(first)

    monkeypatch.setattr(TaskExamples, "blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "again", "random", **options)
    again = prepared(tmp_path / "again", "random", **options)
    assert taken == [0, 256]
    assert again.manifest == whole.manifest
    for one, other in zip(stored(again), stored(whole), strict=True):
        np.testing.assert_array_equal(one["inputs"], other["inputs"])


def test_offline_caches_are_read(tmp_path, monkeypatch):
    """What is cached differs from the source, so that it shows which one was read."""
    task = seqio.TaskRegistry.get("own_function")
    cache = tmp_path / "caches" / "own_function"
    cache.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(cache / "train.tfrecord-00000-of-00001")) as writer:
        for number in range(5):
            ints = tf.train.Feature(int64_list=tf.train.Int64List(value=[number + 3] * 4))
            feature = {"inputs": ints, "targets": ints}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    features = {side: {"shape": [None], "dtype": "int32"} for side in LENGTHS}
    info = {"num_shards": 1, "seqio_version": "0.0.18", "features": features}
    (cache / "info.train.json").write_text(json.dumps(info))
    (cache / "stats.train.json").write_text('{"examples": 5}')
    (cache / "COMPLETED").write_text("")
    monkeypatch.setattr(seqio.utils, "_GLOBAL_CACHE_DIRECTORIES", [str(tmp_path / "caches")])
    store = prepared(tmp_path / "store", "function", sequence_length=LENGTHS, splits=("train",))
    monkeypatch.setattr(task, "_cache_dir", None)
    assert [example["inputs"].tolist() for example in stored(store)] == [[n + 3] * 4 + [1] for n in range(5)]
    assert store.manifest.source["cached"]


def test_extra_ids_for_objectives(tmp_path):
    """UL2's mode tokens come behind the vocabulary's own ids, whose sentinels stay."""
    extra = ExtraIds(modes=True)
    store = prepared(tmp_path / "store", "text", "windows", 16, extra=extra)
    special = store.manifest.vocabulary.special
    assert special["sentinels"] == [519, 100] and special["modes"] == {"R": 520, "S": 521, "X": 522}
    assert load_tokenizer(store).info == store.manifest.vocabulary


@pytest.mark.parametrize(
    ("changes", "options", "layout", "message"),
    [
        ({}, {"splits": ("train", "valid")}, "pairs", r"no split 'valid' \(did you mean 'validation'\?\)"),
        ({}, {"sequence_length": {"targets": 99}}, "windows", r"targets have up to 99 tokens, more than a window"),
        ({}, {"sequence_length": {"targets": 9}}, "pairs", r"--sequence_length says nothing of inputs"),
        (
            {"output_features": {"targets": seqio.Feature(own_tasks.BYTES)}},
            {},
            "pairs",
            r"own_function has targets only: choose windows or packed",
        ),
        (
            {"output_features": {"targets": seqio.Feature(own_tasks.BYTES, rank=2)}},
            {},
            "windows",
            r"targets are int32 of rank 2; a store holds token ids, whole numbers of rank 1",
        ),
        (
            {"output_features": {"targets": seqio.ContinuousFeature(dtype=tf.float32)}},
            {},
            "windows",
            r"targets are float32 of rank 1; a store holds token ids",
        ),
        (
            {"output_features": {"encodings": seqio.Feature(own_tasks.BYTES)}},
            {},
            "windows",
            r"its output features are encodings; a store holds targets, or inputs and targets",
        ),
        (
            {
                "output_features": {side: seqio.Feature(seqio.PassThroughVocabulary(40)) for side in LENGTHS},
                "preprocessors": [own_tasks.ask, lambda ds: seqio.preprocessors.tokenize(ds, own_tasks.OF_BYTES)],
            },
            {},
            "pairs",
            r"own_function\[train\]: example 0: inputs hold the id \d+, expected 0 to 40, the ids of its vocabulary",
        ),
        ({"preprocessors": [lambda ds: ds.take(0)]}, {}, "windows", r"missing expected output feature .*inputs"),
        (
            {"preprocessors": [own_tasks.ask, seqio.preprocessors.tokenize, lambda ds: ds.take(0)]},
            {},
            "pairs",
            r"own_function: split 'train' is empty: it yields no example",
        ),
        (
            {"preprocessors": [own_tasks.corrupt]},
            {},
            "windows",
            r"own_tasks.py line \d+: .*(give --sequence_length\?)",
        ),
        (
            {"source": seqio.TextLineDataSource({"train": "/nowhere/*.txt"})},
            {},
            "pairs",
            r"own_function, split 'train': ValueError: No file is found for the file pattern: /nowhere/\*.txt",
        ),
        (
            {"source": seqio.FunctionDataSource(own_tasks.lines, [])},
            {},
            "pairs",
            r"own_function: its source has no splits: is its data there",
        ),
        ({"preprocessors": [lambda ds: 1 / 0]}, {}, "windows", r"test_any_task.py line \d+: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_bad_tasks_are_told_in_one_line(tmp_path, changes, options, layout, message):
    task = seqio.TaskRegistry.get("own_function").replace(**changes)
    if layout == "pairs":
        options = {"sequence_length": LENGTHS} | options
    with pytest.raises(UserError, match=message) as error:
        prepare_examples(TaskExamples(task, TaskOptions(**options)), tmp_path / "store", layout, 32)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert not list(tmp_path.iterdir())

"""A source's shards: SeqIO's own `ShardInfo` is the reference; how many processes read them changes nothing."""

import filecmp
import json
import signal

import numpy as np
import pytest
import seqio

from triarch.cli import modules
from triarch.cli.main import main
from triarch.data.store import TokenStore
from triarch.prepare import examples
from triarch.prepare.examples import prepare_examples
from triarch.tasks.any_task import TaskExamples, TaskOptions
from triarch.tasks.reading import by_turns

# More than one block a shard, of different lengths.
COUNTS = (300, 129, 40)
SHARDS = len(COUNTS)
MODULE = """
import os
import signal

import seqio
import tensorflow as tf

BYTES = seqio.ByteVocabulary()
FILES = {{"train": {files!r}}}


def reverse(line):
    if line == b"shard 1 line 7" and os.environ.get("SHARDS_FAIL") == "raise":
        raise ValueError("cannot be reversed")
    if line == b"shard 1 line 7" and os.environ.get("SHARDS_FAIL") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return line[::-1]


@seqio.map_over_dataset
def in_python(line):
    text = tf.ensure_shape(tf.numpy_function(reverse, [line], tf.string), [])
    return {{"targets": text}}


def register(name, *steps):
    if name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(name)
    source = seqio.TextLineDataSource(FILES)
    steps = [*steps, seqio.preprocessors.tokenize, seqio.preprocessors.append_eos]
    seqio.TaskRegistry.add(name, source, {{"targets": seqio.Feature(BYTES)}}, preprocessors=steps)


register("sh_python", in_python)
register("sh_tensorflow", seqio.map_over_dataset(lambda line: {{"targets": line}}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for shard, count in enumerate(COUNTS):
        lines = (f"shard {shard} line {line}" for line in range(count))
        (folder / f"lines-{shard}.txt").write_text("\n".join(lines) + "\n")
    (folder / "sharded_tasks.py").write_text(MODULE.format(files=str(folder / "lines-*.txt")))
    modules.import_modules([str(folder / "sharded_tasks.py")])
    return folder


def texts_of(store):
    """The lines of a store of windows, as they were before they were reversed."""
    reader = store.split("train")
    stream = np.concatenate([reader[index]["tokens"] for index in range(len(reader))]).tolist()
    texts = bytes(index - 3 if index > 2 else 0 for index in stream).split(b"\0")
    return [text[::-1].decode() for text in texts[:-1]]


def seqios(shards=SHARDS):
    """Each shard's lines, as SeqIO has them."""
    task = seqio.TaskRegistry.get("sh_python")
    found = []
    for number in range(shards):
        dataset = task.get_dataset(split="train", shuffle=False, shard_info=seqio.ShardInfo(number, shards))
        found.append(
            [seqio.ByteVocabulary().decode(one["targets"].tolist())[::-1] for one in dataset.as_numpy_iterator()]
        )
    return found


def by_blocks(shards):
    blocks = [[lines[start : start + 128] for start in range(0, len(lines), 128)] for lines in shards]
    return [line for _, block in by_turns([iter(one) for one in blocks]) for line in block]


def prepared(path, name="sh_python", **options):
    task = seqio.TaskRegistry.get(name)
    return prepare_examples(TaskExamples(task, TaskOptions(**options)), path, "windows", 8)


def test_turns():
    assert list(by_turns([iter("abc"), iter(""), iter("d")])) == [(0, "a"), (2, "d"), (0, "b"), (0, "c")]


def test_a_task_in_python_is_read_by_its_shards(folder, tmp_path):
    store = prepared(tmp_path / "store")
    expected = by_blocks(seqios())
    assert [len(one) for one in seqios()] == list(COUNTS)
    assert store.manifest.source["shards"] == {"train": SHARDS}
    assert store.manifest.splits["train"].documents == sum(COUNTS)
    assert texts_of(store) == expected[: len(texts_of(store))] and len(texts_of(store)) > sum(COUNTS) - 3
    provenance = store.provenance("train")
    pieces = provenance.pieces(np.arange(store.manifest.splits["train"].examples))
    assert provenance.sources == [f"sh_python[train, shard {number} of {SHARDS}]" for number in range(SHARDS)]
    named = [f"shard {source} line {record}" for source, record in zip(pieces.source, pieces.record, strict=True)]
    assert list(dict.fromkeys(named)) == expected


def test_one_shard_is_in_the_order_of_get_dataset(folder, tmp_path):
    """As a task is that TensorFlow preprocesses."""
    task = seqio.TaskRegistry.get("sh_tensorflow")
    assert TaskExamples(task, TaskOptions()).provenance()["shards"] == {"train": 1}
    dataset = seqio.TaskRegistry.get("sh_python").get_dataset(split="train", shuffle=False)
    expected = [seqio.ByteVocabulary().decode(one["targets"].tolist())[::-1] for one in dataset.as_numpy_iterator()]
    found = texts_of(prepared(tmp_path / "store", shards=1))
    assert found == expected[: len(found)] and expected != by_blocks(seqios())


def test_more_shards_than_files_and_fewer_examples(folder, tmp_path):
    """SeqIO then shares out examples; the first N are those of the order that all have."""
    found = texts_of(prepared(tmp_path / "store", shards=5, max_examples=200))
    assert found == by_blocks(seqios(5))[:200][: len(found)] and len(found) >= 198


def test_an_interrupted_store_resumes_with_the_same_bytes(folder, tmp_path, monkeypatch):
    whole = prepared(tmp_path / "whole")
    monkeypatch.setattr(examples, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr("triarch.data.partial.KEPT_AFTER_SECONDS", 0)
    taken, blocks = [], TaskExamples.blocks

    def interrupted(self, split, first):
        taken.append(first)
        for number, block in enumerate(blocks(self, split, first)):
            if len(taken) == 1 and number == 4:
                raise KeyboardInterrupt
            yield block

    monkeypatch.setattr(TaskExamples, "blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "again")
    again = prepared(tmp_path / "again")
    assert taken == [0, 128 + 128 + 40 + 128] and again.manifest == whole.manifest
    assert texts_of(again) == texts_of(whole)


def run(folder, output, *flags):
    return main(
        ["prepare", f"--module={folder / 'sharded_tasks.py'}", "--task=sh_python", f"--output={output}", *flags]
    )


@pytest.mark.slow
def test_processes_change_nothing(folder, tmp_path, capsys, monkeypatch):
    flags = ["--window=8", f"--json={tmp_path / 'told.json'}"]
    for workers in (1, 2):
        assert run(folder, tmp_path / str(workers), f"--workers={workers}", *flags) == 0
    assert json.loads((tmp_path / "told.json").read_text())["manifest"]["source"]["shards"] == {"train": SHARDS}
    names = [str(path.relative_to(tmp_path / "1")) for path in (tmp_path / "1").rglob("*") if path.is_file()]
    assert filecmp.cmpfiles(tmp_path / "1", tmp_path / "2", names, shallow=False) == (names, [], [])
    assert TokenStore.open(tmp_path / "2").split("train")[0]["tokens"].size == 8
    for how, expected in (
        ("raise", "sh_python, split 'train': "),
        ("kill", "a process that reads it was killed (out of memory? fewer --workers need less)"),
    ):
        monkeypatch.setenv("SHARDS_FAIL", how)
        capsys.readouterr()
        assert run(folder, tmp_path / how, "--workers=2", *flags) == 1
        error = capsys.readouterr().err
        assert expected in error and error.count("\n") == 1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_bad_numbers(folder, tmp_path, capsys):
    for flag in ("--shards=0", "--workers=-1"):
        assert run(folder, tmp_path / "no", flag) == 1
        assert f"{flag}: expected at least 1" in capsys.readouterr().err

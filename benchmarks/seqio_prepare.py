"""What `triarch prepare` of a SeqIO task costs beside SeqIO's own iteration of it.

    python benchmarks/seqio_prepare.py --examples=50000 --rounds=3

Two tasks of eight text files: one that TensorFlow preprocesses (split into inputs and targets, SentencePiece), and one
that does the same work in Python, example by example. SeqIO's side iterates `Task.get_dataset` and does nothing with
the examples; triarch's writes the store, in one process and, where Python works, in as many as there are cores. Each is
measured in a process of its own, by turns; what counts is the ratio within a round. Seconds are the clock's, and those
of processors, which say more on a busy machine; starting Python, importing TensorFlow and making the task are left out,
but not worker processes' own start. Memory is the most that the process held beyond what it held before.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from triarch.cli.seqio.tensorflow_quiet import import_seqio
from triarch.files import write_whole

_FILES = 8
_LENGTHS = {"inputs": 64, "targets": 256}
_TASKS = ("tensorflow", "python")


def write_files(folder: Path, examples: int) -> None:
    """Writes the lines that the tasks read, and a vocabulary."""
    from triarch.prepare.corpora.stdlib import StdlibCode
    from triarch.prepare.sentencepiece_training import train_sentencepiece

    for file in range(_FILES):
        lines = (f"question {n}: " + f"how much is {n} and {n * n}? " * 4 for n in range(file, examples, _FILES))
        (folder / f"lines-{file}.txt").write_text("\n".join(lines) + "\n")
    texts = (document.text for document, _ in zip(StdlibCode().documents(), range(40), strict=False))
    write_whole(folder / "small.model", train_sentencepiece(texts, 1000, "bpe").model)


def register(folder: Path) -> None:
    """Registers the two tasks."""
    import_seqio()
    import numpy as np
    import seqio
    import tensorflow as tf

    vocabulary = seqio.SentencePieceVocabulary(str(folder / "small.model"), extra_ids=100)

    @seqio.map_over_dataset
    def in_tensorflow(line):
        parts = tf.strings.split(line, ": ", maxsplit=1)
        return {"inputs": parts[0], "targets": parts[1]}

    def tokenized(line):
        return [np.array(vocabulary.encode(part), np.int32) for part in line.decode().split(": ", 1)]

    @seqio.map_over_dataset
    def in_python(line):
        sides = tf.numpy_function(tokenized, [line], [tf.int32, tf.int32])
        return {name: tf.ensure_shape(side, [None]) for name, side in zip(_LENGTHS, sides, strict=True)}

    steps = {"tensorflow": [in_tensorflow, seqio.preprocessors.tokenize], "python": [in_python]}
    for name, own in steps.items():
        source = seqio.TextLineDataSource({"train": str(folder / "lines-*.txt")})
        features = {side: seqio.Feature(vocabulary) for side in _LENGTHS}
        seqio.TaskRegistry.add(name, source, features, preprocessors=[*own, seqio.preprocessors.append_eos])


def measure(folder: Path, task: str, workers: int | None) -> dict[str, float]:
    """Returns seconds, processor seconds, MiB and examples; of SeqIO's iteration where `workers` is None."""
    register(folder)
    import seqio

    from triarch.prepare.examples import prepare_examples
    from triarch.tasks.any_task import TaskExamples, TaskOptions
    from triarch.tasks.reading import Processes

    provider = seqio.TaskRegistry.get(task)
    before, start = _memory(), _clocks()
    if workers is None:
        dataset = provider.get_dataset(_LENGTHS, "train", shuffle=False, seed=0)
        count = sum(1 for _ in dataset.as_numpy_iterator())
    else:
        processes = Processes(workers, functools.partial(register, folder)) if workers > 1 else None
        shards = None if workers > 1 else 1
        examples = TaskExamples(provider, TaskOptions(sequence_length=_LENGTHS, shards=shards), processes)
        store = prepare_examples(examples, folder / "store", "packed_pairs", 0, overwrite=True)
        count = store.manifest.splits["train"].documents
    seconds, processor = (end - begin for end, begin in zip(_clocks(), start, strict=True))
    return {"seconds": seconds, "processor": processor, "mebibytes": _memory() - before, "examples": count}


def _clocks() -> tuple[float, float]:
    times = os.times()
    return time.perf_counter(), times.user + times.system + times.children_user + times.children_system


def _memory() -> float:
    """Returns the most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_its_own_process(folder: Path, task: str, workers: int | None) -> dict[str, float]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, folder, task, workers).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=50_000, help="of each task (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of all sides (default: %(default)s)")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, args.examples)
        ratios: dict[tuple[str, str], list[tuple[float, float]]] = {}
        print(f"{'task':12}{'side':24}{'seconds':>9}{'processor':>11}{'MiB':>8}", flush=True)
        for _ in range(args.rounds):
            for task in _TASKS:
                sides: dict[str, Any] = {"seqio": None, "triarch, 1 process": 1}
                if task == "python" and cores > 1:
                    sides[f"triarch, {cores} processes"] = cores
                found = {}
                for side, workers in sides.items():
                    one = found[side] = _in_its_own_process(folder, task, workers)
                    print(
                        f"{task:12}{side:24}{one['seconds']:9.1f}{one['processor']:11.1f}{one['mebibytes']:8.0f}",
                        flush=True,
                    )
                    if one["examples"] != args.examples:
                        raise SystemExit(f"{side} made {one['examples']} examples of {args.examples}")
                    if workers is not None:
                        theirs = found["seqio"]
                        pair = one["seconds"] / theirs["seconds"], one["processor"] / theirs["processor"]
                        ratios.setdefault((task, side), []).append(pair)
    print("\ntimes SeqIO's: median of the rounds (all)")
    for (task, side), pairs in ratios.items():
        for clock, values in zip(("seconds", "processor"), zip(*pairs, strict=True), strict=True):
            listed = ", ".join(f"{value:.2f}" for value in values)
            print(f"{task:12}{side:24}{clock:>10}{statistics.median(values):7.2f}  ({listed})")


if __name__ == "__main__":
    main()

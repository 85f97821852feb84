"""Tokens a second that `triarch prepare` writes, beside SeqIO writing the same task.

    python benchmarks/prepare_throughput.py --megabytes=1000 --rounds=1

Both read the same JSON lines (the standard library's source, see `write_text`) from a temporary folder, tokenize them
with the same SentencePiece model and cut windows; that they made as many is checked. SeqIO's side is its own pipeline,
`Task.get_dataset` in tf.data with as many threads as the machine has cores, each window written as a tf.train.Example
to a TFRecord file, as its cache holds them; the cache's own command needs Apache Beam on top. The two run by turns, so
that whatever else the machine does weighs on both, and the processors' time is told beside the clock's, for on a busy
machine that says more ("user" leaves out what the kernel does for them). The start of triarch's worker processes is
counted, the import of TensorFlow is not. The folder takes two and a half times the text; memory does not grow with it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import shutil
import string
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

# Worker processes import this file too, so what is heavy is imported where it is used.
from triarch.progress import Progress
from triarch.prepare.corpora.files import Files
from triarch.prepare.sentencepiece_training import train_sentencepiece
from triarch.prepare.corpora.stdlib import StdlibCode
from triarch.tokenizers import MODEL_FILE

_VALIDATION = 0.0
_CLOCKS = ("seconds", "processor_seconds", "user_seconds")
# One in so many words is made up. 60 MB of other Python source, read after 10 MB of it, have as many new words.
_MADE_UP = 100


def write_text(path: Path, num_bytes: int, seed: int, progress: Progress) -> None:
    """Writes JSON lines of about `num_bytes` bytes of text.

    It is the standard library's source over and over; so that it does not get easier than other text, new words keep
    coming: see `_MADE_UP`.
    """
    draw = random.Random(seed)
    written = 0
    progress.start("writing text", num_bytes)
    with path.open("w") as file:
        for document in itertools.cycle(list(StdlibCode().documents())):
            words = document.text.split(" ")
            for index in draw.choices(range(len(words)), k=len(words) // _MADE_UP + 1):
                words[index] = "".join(draw.choices(string.ascii_lowercase, k=6)) + words[index]
            text = " ".join(words)
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            written += len(text.encode())
            progress.advance(len(text.encode()))
            if written >= num_bytes:
                return


def measure_triarch(text: Path, folder: Path, window: int, workers: int) -> dict[str, float]:
    """Prepares a store and returns examples, seconds and the largest process's memory in MiB."""
    from triarch.prepare.pipeline import VocabularyChoice, prepare

    choice = VocabularyChoice(str(folder / MODEL_FILE))
    start = _clocks()
    files = Files((str(text),))
    store = prepare(files, "text", folder / "store", choice, window, _VALIDATION, workers, show_progress=True)
    seconds = _clocks() - start
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    shutil.rmtree(store.path)
    return {**_rates(store.manifest.splits["train"].examples, window, seconds), "mebibytes": memory / 1024}


def measure_seqio(text: Path, folder: Path, window: int, expected: int) -> dict[str, float]:
    """Writes SeqIO's dataset of the same task, `expected` examples, and returns how many there were, and seconds."""
    import tensorflow as tf

    from triarch.tasks.registry import corpus_task
    from triarch.tokenizers import SentencePieceTokenizer
    from triarch.tasks.vocabularies import seqio_vocabulary

    model = folder / MODEL_FILE
    vocabulary = seqio_vocabulary(SentencePieceTokenizer.load(model), model)
    task = corpus_task("benchmark", Files((str(text),)), vocabulary, _VALIDATION)
    start = _clocks()
    examples = 0
    with tf.io.TFRecordWriter(str(folder / "seqio.tfrecord")) as writer, Progress(True) as progress:
        progress.start("seqio", expected)
        for tokens in _windows(task, window):
            values = tf.train.Int64List(value=tokens)
            feature = {"targets": tf.train.Feature(int64_list=values)}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
            examples += 1
            progress.advance(1)
    return _rates(examples, window, _clocks() - start)


def _clocks() -> np.ndarray:
    """Returns seconds by the clock, and of processors: this process's and those of processes that ended."""
    times = os.times()
    user = times.user + times.children_user
    return np.array([time.perf_counter(), user + times.system + times.children_system, user])


def _rates(examples: int, window: int, seconds: np.ndarray) -> dict[str, float]:
    rate = examples * window / seconds[0]
    return {"examples": examples, **dict(zip(_CLOCKS, seconds.tolist(), strict=True)), "tokens_per_second": rate}


def _windows(task: Any, window: int) -> Iterator[np.ndarray]:
    dataset = task.get_dataset({"targets": window}, split="train", shuffle=False)
    for example in dataset.as_numpy_iterator():
        yield example["targets"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200, help="of text a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of both sides (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of triarch (default: all cores)")
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--vocabulary_size", type=int, default=32768)
    parser.add_argument("--vocabulary_model", default="bpe", help="bpe or unigram (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = (document.text for document in StdlibCode().documents())
        model = train_sentencepiece(texts, args.vocabulary_size, args.vocabulary_model).model
        (folder / MODEL_FILE).write_bytes(model)
        ratios = []
        for number in range(args.rounds):
            text = folder / "text.jsonl"
            with Progress(True) as progress:
                write_text(text, args.megabytes * 10**6, number, progress)
            ours = measure_triarch(text, folder, args.window, args.workers)
            print(json.dumps({"triarch": ours}), flush=True)
            theirs = measure_seqio(text, folder, args.window, ours["examples"])
            print(json.dumps({"seqio": theirs}), flush=True)
            if ours["examples"] != theirs["examples"]:
                raise SystemExit("the two did not write the same examples")
            ratios.append([theirs[name] / ours[name] for name in _CLOCKS])
    for name, values in zip(_CLOCKS, np.transpose(ratios), strict=True):
        listed = ", ".join(f"{value:.2f}" for value in values)
        print(f"seqio / triarch, {name}: {listed}; median {np.median(values):.2f}")


if __name__ == "__main__":
    main()

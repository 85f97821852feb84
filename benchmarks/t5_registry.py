"""Every task and mixture of the `t5` package, prepared by `triarch prepare` and compared with SeqIO token by token.

    pip install --no-deps t5==0.9.4 babel
    python benchmarks/t5_registry.py

(`--no-deps`, for the package asks for seqio-nightly and tfds-nightly, which overwrite the lock's SeqIO and TFDS.) The
data sets are made up, 40 examples a split in TFDS's format, and so is the vocabulary, which else lies on gs://. A
store is compared with SeqIO's `get_dataset`: inputs and targets as they are, and the features that training makes of
them with those of `seqio.EncDecFeatureConverter`. A mixture's rates are compared with `Mixture.get_rate`. Prints a line
for each task and mixture, and how many are equal, refused and different; exit status 1 if any is different.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from triarch.cli.main import main as triarch
from triarch.data.store import TokenStore
from triarch.objectives import SpecialTokens, Supervised
from triarch.prepare.corpora.stdlib import StdlibCode
from triarch.prepare.sentencepiece_training import train_sentencepiece

LENGTHS = {"inputs": 64, "targets": 64}
EQUAL, REFUSED, DIFFERENT = "equal", "refused", "different"
# The package's registry with a vocabulary on this disk in place of those on gs://.
_MODULE = """
import seqio

_from_file = seqio.SentencePieceVocabulary.__init__

def _local(self, file, *more, **options):
    _from_file(self, {model!r} if file.startswith("gs://") else file, *more, **options)

seqio.SentencePieceVocabulary.__init__ = _local
import t5.data.mixtures
seqio.SentencePieceVocabulary.__init__ = _from_file
"""


def prepare(module: Path, data: Path, name: str, output: Path, split: str | None = None) -> tuple[int, str]:
    """Returns the exit status of `triarch prepare`, and its error."""
    lengths = ",".join(f"{side}:{most}" for side, most in LENGTHS.items())
    flags = [f"--module={module}", f"--task={name}", f"--data_dir={data}", f"--output={output}"]
    flags += [f"--sequence_length={lengths}", "--seed=5", f"--json={output.parent / 'told.json'}"]
    error = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
        status = triarch(["prepare", *flags, *([f"--split={split}"] if split else [])])
    return status, " ".join(error.getvalue().split())


def difference(name: str, store: TokenStore) -> str | None:
    """Returns in which split and example a store is not what SeqIO yields of the task; None where it is."""
    import seqio

    task = seqio.TaskRegistry.get(name)
    has_inputs = store.manifest.layout == "pairs"
    for split in store.manifest.splits:
        given = {"shuffle": False, "seed": 5, "num_epochs": 1}
        theirs = list(task.get_dataset(LENGTHS, split, **given).as_numpy_iterator())
        reader = store.split(split)
        if not has_inputs:
            stream = np.concatenate([example["targets"] for example in theirs])
            ours = np.concatenate([reader[index]["tokens"] for index in range(len(reader))])
            if not np.array_equal(ours, stream[: len(ours)]) or len(stream) - len(ours) >= store.manifest.window:
                return f"{split}: other tokens"
            continue
        there = [len(example["inputs"]) + len(example["targets"]) > 0 for example in theirs]
        if sum(there) != len(reader):
            return f"{split}: {len(reader)} examples, {sum(there)} of SeqIO's have tokens"
        converter = seqio.EncDecFeatureConverter(pack=False)
        features = seqio.get_dataset(name, LENGTHS, converter, split, **given).as_numpy_iterator()
        expected = ((one, made) for one, made, some in zip(theirs, features, there, strict=True) if some)
        for index, (example, made) in enumerate(expected):
            if place := _first_unequal(store, reader[index], example, made):
                return f"{split}, example {index}: {place}"
    return None


def _first_unequal(store: TokenStore, ours: dict, theirs: dict, converted: dict) -> str | None:
    manifest = store.manifest
    for side in LENGTHS:
        if not np.array_equal(ours[side], theirs[side]):
            return side
    objective = Supervised(LENGTHS["inputs"], LENGTHS["targets"])
    special = SpecialTokens.from_manifest(manifest.vocabulary.special)
    transform = objective.transform("encoder-decoder", special, manifest.vocabulary.size, manifest.window)
    made = transform(ours, np.random.default_rng(0))
    return next((name for name, value in converted.items() if not np.array_equal(made[name], value)), None)


def check_task(module: Path, data: Path, name: str, output: Path) -> tuple[str, str]:
    """Returns whether a task's store is equal to SeqIO's examples, and why not."""
    status, error = prepare(module, data, name, output)
    if status:
        return REFUSED, error
    store = TokenStore.open(output)
    found = difference(name, store)
    counts = ", ".join(f"{split} {one.documents}" for split, one in store.manifest.splits.items())
    return (EQUAL, counts) if found is None else (DIFFERENT, found)


def check_mixture(module: Path, data: Path, name: str, folder: Path) -> tuple[str, str]:
    """Returns whether a mixture's rates are SeqIO's; its tasks' stores are compared each by itself."""
    import seqio

    status, error = prepare(module, data, name, folder)
    if status:
        return REFUSED, error
    mixture = seqio.MixtureRegistry.get(name)
    rates = {task.name: float(mixture.get_rate(task)) for task in mixture.tasks if "train" in task.splits}
    expected = {task: rate / sum(rates.values()) for task, rate in rates.items() if rate}
    told = json.loads((folder.parent / "told.json").read_text())["rates"]
    equal = told.keys() == expected.keys() and np.allclose(
        [told[task] for task in expected], list(expected.values()), rtol=1e-12
    )
    return (EQUAL, f"{len(told)} tasks") if equal else (DIFFERENT, f"rates {told}, expected {expected}")


def results(folder: Path, only: str) -> Iterator[tuple[str, str, str, str]]:
    """Yields kind, name, result and reason of each task, then of each mixture, whose names `only` finds."""
    import seqio
    from t5_data import write

    model, module = folder / "small.model", folder / "small_t5.py"
    texts = (document.text for document, _ in zip(StdlibCode().documents(), range(40), strict=False))
    model.write_bytes(train_sentencepiece(texts, 1000, "unigram").model)
    module.write_text(_MODULE.format(model=str(model)))
    before = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        triarch(["prepare", f"--module={module}", "--task=no_such_task", f"--output={folder / 'none'}"])
    tasks = sorted(name for name in set(seqio.TaskRegistry.names()) - before if re.search(only, name))
    tasks = [name for name in tasks if isinstance(seqio.TaskRegistry.get(name).source, seqio.TfdsDataSource)]
    mixtures = sorted(name for name in set(seqio.MixtureRegistry.names()) - before if re.search(only, name))
    needed = [seqio.TaskRegistry.get(name) for name in tasks]
    needed += [task for name in mixtures for task in seqio.MixtureRegistry.get(name).tasks]
    data = folder / "tfds"
    (folder / "stores").mkdir()
    for source in sorted({task.source.tfds_dataset.name for task in needed}):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            write(source, data)
    for name in tasks:
        yield "task", name, *check_task(module, data, name, folder / "stores" / name)
    for name in mixtures:
        yield "mixture", name, *check_mixture(module, data, name, folder / "stores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="REGEX", help="tasks and mixtures whose names it finds")
    args = parser.parse_args()
    if importlib.util.find_spec("t5") is None:
        raise SystemExit("this needs the t5 package: pip install --no-deps t5==0.9.4 babel")
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for kind, name, result, reason in results(Path(folder), args.only):
            print(f"{kind:8}{name:52}{result:10}{reason}", flush=True)
            counts[kind, result] += 1
    for (kind, result), count in sorted(counts.items()):
        print(f"{count} {kind}s {result}")
    raise SystemExit(any(result == DIFFERENT for _, result in counts))


if __name__ == "__main__":
    main()

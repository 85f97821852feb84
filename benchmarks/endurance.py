"""What kill -9 at random moments costs training, `prepare`, sweeps and exports: nothing but the time.

    python benchmarks/endurance.py --kills=50
    python benchmarks/endurance.py --quick

Each job is run once without interruption; then again and again, killed one to five times and run to its end, in the
same folder, and what is there is compared. In every second result training changes its devices (1, 2 or 4) and
processes (1 or 2) from one start to the next: its losses are then equal to rounding, otherwise to the last bit, as are
stores, tables and exports. Of several processes one is killed, and the others must end by themselves. Prints a table,
then every difference; exit status 1 if there is any.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

STEPS = 60
WINDOW = 32
# float32's unit roundoff, twice, for each step: sums over devices are added in another order.
ROUNDING = STEPS * 2.0**-22
# Until the other processes of a run, and workers, have noticed that one was killed.
STARTUP_SECONDS = 90
GRACE_SECONDS = STARTUP_SECONDS + 30.0
MOST_SECONDS = 900.0
FLAGS = "--xla_force_host_platform_device_count={} --xla_backend_optimization_level=0"
RUN = """include 'runs/run.gin'
include 'objectives/causal_lm.gin'
ModelConfig.vocab_size = 320
ModelConfig.d_model = 16
ModelConfig.d_ff = 32
ModelConfig.num_heads = 2
ModelConfig.head_dim = 8
ModelConfig.num_decoder_layers = 1
DataConfig.window = {window}
DataConfig.store = '{folder}/store'
RunConfig.data = @DataConfig()
RunConfig.steps = {steps}
RunConfig.batch_size = 8
RunConfig.log_every = 1
RunConfig.eval_every = 20
RunConfig.eval_batches = 2
RunConfig.tensorboard = False
RunConfig.compilation_cache = '{folder}/compiled'
RunConfig.optimizer = @AdamW()
AdamW.learning_rate = @Cosine()
Cosine.peak = 3e-3
Cosine.warmup_steps = 5
CheckpointConfig.every = 5
CheckpointConfig.keep_last = 3
"""
SETTINGS = """ModelConfig.vocab_size = 320
DataConfig.window = {window}
RunConfig.steps = {steps}
RunConfig.batch_size = 8
RunConfig.tensorboard = False
CheckpointConfig.every = 5
"""
STUDY = """Study.title = 'Endurance'
Study.question = 'Is anything lost?'
Study.families = ('decllm',)
Study.labels = ('DecLLM',)
Study.sizes = ('tiny_s', 'tiny_m')
Study.settings = '{folder}/settings.gin'
Study.corpora = (@text/Corpus(),)
text/Corpus.task = 'files'
text/Corpus.store = '{folder}/store'
Study.window = {window}
Study.warmup_fraction = 0.1
Study.max_windows = 4
"""
# Columns that tell how long something took.
TIMES = ("seconds", "tokens_per_second")


Commands = tuple[int, list[list[str]]]


class Place:
    """The folder of all inputs and results."""

    def __init__(self, folder: Path, seed: int):
        self.folder = folder
        words = random.Random(seed)
        letters = "etaoinshrdlucmf"
        known = ["".join(words.choices(letters, k=words.randint(2, 9))) for _ in range(3000)]
        for number in range(4):
            lines = (" ".join(words.choices(known, k=12)) for _ in range(8000))
            (folder / f"text{number}.txt").write_text("\n".join(lines) + "\n")
        values = {"folder": folder, "window": WINDOW, "steps": STEPS}
        for name, text in (("run.gin", RUN), ("settings.gin", SETTINGS), ("study.gin", STUDY)):
            (folder / name).write_text(text.format(**values))
        finish(start(self.prepare(folder / "store", 1)))

    def prepare(self, output: Path, workers: int) -> list[str]:
        """Returns the command that makes a store."""
        flags = ["--documents=line", "--vocabulary=bytes", f"--window={WINDOW}", f"--workers={workers}"]
        return ["prepare", "--task=files", f"--files={self.folder}/text*.txt", f"--output={output}", *flags]


@dataclasses.dataclass(frozen=True)
class Job:
    """What is killed.

    Attributes:
      name: of the verb.
      commands: (devices, a command line for each process) that make a result; what `same` does not forbid differs from
        one start to the next.
      compare: yields the differences between a result and the reference.
      appears_whole: whether the result is there only when it is whole, and is then not made again.
    """

    name: str
    commands: Callable[[Path, random.Random, bool], Commands]
    compare: Callable[[Path, Path, bool], Iterator[str]]
    appears_whole: bool


def start(*commands: list[str], devices: int = 1) -> list[subprocess.Popen]:
    """Starts triarch once for each command line, each in a group of its own, which ends with what it starts."""
    variables = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS.format(devices)}
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    return [
        subprocess.Popen([sys.executable, "-m", "triarch", *command], env=variables, start_new_session=True, **streams)
        for command in commands
    ]


def finish(processes: list[subprocess.Popen]) -> None:
    """Waits for all; raises RuntimeError, with what it said, where one fails."""
    for process in processes:
        said = process.communicate(timeout=MOST_SECONDS)[1]
        if process.returncode:
            raise RuntimeError(f"status {process.returncode} of {' '.join(process.args[2:])}: {said[-2000:]}")


def launch(job: Job, result: Path, rng: random.Random, same: bool) -> list[subprocess.Popen]:
    """Starts the processes of a job."""
    devices, commands = job.commands(result, rng, same)
    return start(*commands, devices=devices)


def kill_one(processes: list[subprocess.Popen], seconds: float, rng: random.Random) -> tuple[bool, list[str]]:
    """Kills one of the processes after so many seconds; returns whether any ran still, and which went on after it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(process.poll() is None for process in processes):
        time.sleep(0.02)
    running = [process for process in processes if process.poll() is None]
    if not running:
        finish(processes)
        return False, []
    rng.choice(running).kill()
    end = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < end and any(_lives(process) for process in processes):
        time.sleep(0.1)
    left = [f"pid {process.pid} went on after kill -9 of its fellow" for process in processes if _lives(process)]
    for process in processes:
        _end_group(process)
    return True, left


def _lives(process: subprocess.Popen) -> bool:
    """Returns whether a process, or one that it started, is there still."""
    process.poll()
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    # Those that have ended and that nobody has asked after (Z) are listed too.
    return any(int(group) == process.pid and state[0] != "Z" for group, state in map(str.split, listed.splitlines()))


def _end_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def endure(job: Job, folder: Path, kills: int, rng: random.Random) -> tuple[dict[str, object], list[str]]:
    """Makes one result after another until so many kills have struck; returns a row of the table, and differences."""
    folder.mkdir()
    reference = folder / "reference"
    begun = time.monotonic()
    finish(launch(job, reference, random.Random(0), True))
    seconds = time.monotonic() - begun
    struck = results = early = 0
    differences: list[str] = []
    while struck < kills and results < 5 * kills + 5:
        same = results % 2 == 0
        result = folder / f"result{results}"
        found: list[str] = []
        try:
            is_done = False
            for _ in range(min(rng.randint(1, 5), kills - struck)):
                # Writing is done at the end: every second kill falls there.
                moment = rng.uniform(rng.choice((0.0, 0.6)), 1.1) * seconds
                hit, left = kill_one(launch(job, result, rng, same), moment, rng)
                found += left
                struck, early = struck + hit, early + (not hit)
                is_done = not hit or (job.appears_whole and result.exists())
                if is_done:
                    break
            if not is_done:
                finish(launch(job, result, rng, same))
            found += job.compare(result, reference, same)
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            found.append(f"{type(error).__name__}: {error}")
        shutil.rmtree(result, ignore_errors=True)
        found += [f"left behind: {path.name}" for path in folder.iterdir() if path != reference]
        differences += [f"{result.name}: {line}" for line in found]
        results += 1
    row = {"job": job.name, "kills": struck, "results": results, "not hit": early, "differences": len(differences)}
    return row, [f"{job.name}: {line}" for line in differences]


def digests(folder: Path, without: tuple[str, ...] = ()) -> dict[str, str]:
    """Returns the sha256 of every file below a folder but for those of the top-level names in `without`."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder): path for path in files}
    return {
        str(name): hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if name.parts[0] not in without
    }


def _compare_bytes(found: dict[str, str], expected: dict[str, str]) -> Iterator[str]:
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            yield f"{name}: {'missing' if name not in found else 'too many' if name not in expected else 'other bytes'}"


def _metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _compare_runs(result: Path, reference: Path, same: bool) -> Iterator[str]:
    ours, theirs = _metrics(result), _metrics(reference)
    if [line["step"] for line in ours] != [line["step"] for line in theirs]:
        yield "metrics.jsonl: a step is missing or logged twice"
        return
    for one, other in zip(ours, theirs, strict=True):
        for name in ("loss", "grad_norm", "validation_loss"):
            if name in other:
                allowed = 0.0 if same else ROUNDING * abs(other[name])
                if not abs(one.get(name, float("inf")) - other[name]) <= allowed:
                    yield f"step {other['step']}: {name} {one.get(name)!r}, expected {other[name]!r}"
    names = [{path.name for path in run.iterdir() if path.name != ".lock"} for run in (result, reference)]
    yield from (f"{name}: left behind or missing" for name in sorted(names[0] ^ names[1]))
    steps = [sorted(path.name for path in (run / "checkpoints").iterdir()) for run in (result, reference)]
    if steps[0] != steps[1]:
        yield f"checkpoints {steps[0]}, expected {steps[1]}"
    if same:
        exports = []
        for run in (result, reference):
            output = run.with_name(f".compared-{run.name}")
            finish(start(["export", f"--workdir={run}", f"--output={output}"]))
            manifest = json.loads((output / "manifest.json").read_text())
            exports.append({name: manifest[name] for name in ("tensors", "step", "config")})
            shutil.rmtree(output)
        if exports[0] != exports[1]:
            yield "the parameters are others"


def _compare_tables(result: Path, reference: Path, same: bool) -> Iterator[str]:
    for name in ("results.csv", "evaluations.csv"):
        tables = []
        for folder in (result, reference):
            with (folder / name).open(newline="") as file:
                rows = [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]
            tables.append(rows)
        if tables[0] != tables[1]:
            yield f"{name}: other rows"
    for export in sorted((reference / "exports").iterdir()):
        ours, theirs = (folder / "exports" / export.name for folder in (result, reference))
        yield from (f"exports/{export.name}/{line}" for line in _compare_exports(ours, theirs, same))
    names = [{path.name for path in folder.iterdir()} for folder in (result, reference)]
    yield from (f"{name}: left behind or missing" for name in sorted(names[0] ^ names[1]))


def _compare_exports(result: Path, reference: Path, same: bool) -> Iterator[str]:
    without = ("parameters", "files.json")  # Orbax names its files anew each time; the manifest has all values' sums.
    yield from _compare_bytes(digests(result, without), digests(reference, without))
    copy = result.with_name(f".compared-{result.name}")
    finish(start(["export", f"--workdir={result}", f"--output={copy}"]))  # Reads and checks every file.
    shutil.rmtree(copy)


def jobs(place: Place) -> dict[str, Job]:
    """Returns the jobs by name."""

    def train(result: Path, rng: random.Random, same: bool) -> Commands:
        devices, count = (1, 1) if same else (rng.choice((1, 2, 4)), rng.choice((1, 1, 2)))
        command = ["train", f"--gin_file={place.folder}/run.gin", f"--workdir={result}"]
        if count == 1:
            return devices, [command]
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        joined = [f"--coordinator=localhost:{port}", f"--num_processes={count}"]
        joined += [f"--startup_timeout={STARTUP_SECONDS}", "--heartbeat_timeout=10"]
        return devices, [[*command, *joined, f"--process_id={number}"] for number in range(count)]

    def prepare(result: Path, rng: random.Random, same: bool) -> Commands:
        return 1, [place.prepare(result, 1 if same else 2)]

    def sweep(result: Path, rng: random.Random, same: bool) -> Commands:
        # One run at a time: on fewer cores sums are added in another order.
        return 1, [["sweep", f"--study={place.folder}/study.gin", f"--output={result}", "--parallel=1"]]

    def export(result: Path, rng: random.Random, same: bool) -> Commands:
        return 1, [["export", f"--workdir={place.folder}/trained", f"--output={result}"]]

    def compare_stores(result: Path, reference: Path, same: bool) -> Iterator[str]:
        return _compare_bytes(digests(result), digests(reference))

    found = (
        Job("train", train, _compare_runs, appears_whole=False),
        Job("prepare", prepare, compare_stores, appears_whole=True),
        Job("sweep", sweep, _compare_tables, appears_whole=False),
        Job("export", export, _compare_exports, appears_whole=True),
    )
    return {job.name: job for job in found}


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="of all jobs together (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one kill of each job")
    parser.add_argument("--seed", type=int, help="of moments and numbers of devices (default: another each time)")
    parser.add_argument("--job", action="append", help="train, prepare, sweep or export; repeatable (default: all)")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="endurance-") as root:
        place = Place(Path(root), seed)
        known = jobs(place)
        chosen = [known[name] for name in args.job or known]
        if known["export"] in chosen:
            finish(launch(known["train"], place.folder / "trained", random.Random(0), True))
        # Of the kills two fifths fall to training.
        shares = {"train": 0.4, "prepare": 0.2, "sweep": 0.2, "export": 0.2}
        differences = []
        header = ("job", "kills", "results", "not hit", "differences")
        print("".join(f"{name:>12}" for name in header), flush=True)
        for job in chosen:
            share = shares[job.name] / sum(shares[one.name] for one in chosen)
            kills = 1 if args.quick else max(1, round(args.kills * share))
            row, found = endure(job, place.folder / job.name, kills, random.Random(f"{seed} {job.name}"))
            print("".join(f"{row[name]!s:>12}" for name in header), flush=True)
            differences += found
    print("\n".join(differences) or "no difference")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())

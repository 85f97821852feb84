"""`triarch train` in several processes: the losses of one, checkpoints for any number, and an end for all together."""

import json
import signal

import pytest

from tests.processes import flags, free_port, running
from tests.training import tiny
from triarch.cli.main import main
from triarch.prepare.corpora.files import Files
from triarch.prepare.pipeline import VocabularyChoice, prepare

_GIN = """
include 'runs/run.gin'
include 'models/decllm/family.gin'
include 'objectives/causal_lm.gin'
ModelConfig.vocab_size = {vocabulary}
ModelConfig.head_dim = 4
ModelConfig.d_model = 16
ModelConfig.d_ff = 32
ModelConfig.num_heads = 4
ModelConfig.num_decoder_layers = 2
DataConfig.window = {window}
DataConfig.store = '{store}'
RunConfig.data = @DataConfig()
RunConfig.steps = 12
RunConfig.batch_size = 8
RunConfig.log_every = 1
RunConfig.eval_every = 6
RunConfig.eval_batches = 2
RunConfig.tensorboard = False
RunConfig.compilation_cache = '{cache}'
RunConfig.optimizer = @AdamW()
AdamW.learning_rate = @Cosine()
Cosine.peak = 3e-3
Cosine.warmup_steps = 5
CheckpointConfig.every = 4
CheckpointConfig.keep_last = 9
"""

# Steps are slowed, so that there is a middle; chips have a known peak, so that there is an MFU.
_SCRIPT = """
import sys, time
from triarch.training import run
from triarch.runtime import consistency as together
from triarch.training.logs.reporter import Reporter

pause, *arguments = sys.argv[1:]
report = Reporter.report

def slowly(self, pending):
    time.sleep(float(pause))
    return report(self, pending)

Reporter.report = slowly
together._SEEN_WITHIN_SECONDS = 2.0
run.peak_flops = lambda device: 1e9
from triarch.cli.main import main
sys.exit(main(arguments))
"""


@pytest.fixture(scope="module")
def gin(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    values = {"vocabulary": tiny.VOCABULARY, "window": tiny.WINDOW, "store": store, "cache": folder / "cache"}
    (folder / "run.gin").write_text(_GIN.format(**values))
    return folder / "run.gin"


@pytest.fixture(scope="module")
def train(gin, tmp_path_factory):
    """Starts `triarch train` in `count` processes, some of which may stay away; each may have flags of its own."""

    def start(workdir, count, devices=2, pause=0.0, own=None, absent=(), verb=("train", f"--gin_file={gin}")):
        port = free_port()
        commands = {}
        for number in set(range(count)) - set(absent):
            ours = (own or {}).get(number, [f"--workdir={workdir}"])
            commands[number] = [pause, *verb, *flags(number, count, port), "--startup_timeout=120", *ours]
        return running(_SCRIPT, commands, tmp_path_factory.mktemp("logs"), devices)

    return start


@pytest.fixture(scope="module")
def alone(train, tmp_path_factory):
    """The same run in one process with four devices, and with eight."""
    found = {}
    for devices in (4, 8):
        workdir = tmp_path_factory.mktemp("alone") / "run"
        with train(workdir, 1, devices) as group:
            group.finish()
        found[devices] = lines(workdir)
    return found


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def logged(workdir, step):
    log = workdir / "metrics.jsonl"
    return lambda: log.exists() and f'"step": {step},' in log.read_text()


def steps_saved(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def assert_same(workdir, reference):
    """Sums over devices of several processes are added in another order: the last bits of a float32 differ."""
    tiny.losses(workdir)
    found = lines(workdir)
    assert [line["step"] for line in found] == [line["step"] for line in reference]
    for ours, theirs in zip(found, reference, strict=True):
        for name in ("loss", "grad_norm", "accuracy", "validation_loss", "validation_accuracy", "tokens"):
            assert (name in ours) == (name in theirs)
            if name in ours:
                assert ours[name] == pytest.approx(theirs[name], rel=2e-6), (name, ours["step"])


@pytest.mark.slow
def test_two_processes_train_as_one(train, alone, store, tmp_path, monkeypatch):
    with train(tmp_path / "run", 2) as group:
        group.finish()
        assert "data=4" in group.said(0)
        assert "step 12/12" in group.said(0)
        for word in ("decoder-only", "step 1", "complete"):
            assert word not in group.said(1), "the first process speaks for all"
    assert_same(tmp_path / "run", alone[4])
    assert steps_saved(tmp_path / "run") == [4, 8, 12]
    assert not list((tmp_path / "run").glob(".seen*"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["num_devices"], summary["loss"]) == (4, lines(tmp_path / "run")[-1]["loss"])
    for line in lines(tmp_path / "run")[1:]:
        flops_per_token = line["flops_train"] / line["tokens"]
        assert line["mfu"] == pytest.approx(line["tokens_per_second"] * flops_per_token / 4e9)
    assert_evaluated_alike(train, tmp_path / "run", store, tmp_path)
    assert_exported_by_the_first(tmp_path / "run", tmp_path, monkeypatch)


def assert_evaluated_alike(train, run, store, folder):
    results = []
    for count in (1, 2):
        ours = [f"--model={run}", f"--in_domain={store}", f"--json={folder / 'evaluation.json'}"]
        with train(None, count, own=dict.fromkeys(range(count), ours), verb=("evaluate",)) as group:
            group.finish()
            assert "perplexity" in group.said(0)
            assert count == 1 or "perplexity" not in group.said(1)
        results.append(json.loads((folder / "evaluation.json").read_text())["evaluations"])
    for one, two in zip(*results, strict=True):
        assert two["nats_per_token"] == pytest.approx(one["nats_per_token"], rel=1e-6)
        assert two["num_tokens"] == one["num_tokens"]


def assert_exported_by_the_first(run, folder, monkeypatch):
    """What two processes saved is exported by one; were it started on both hosts, by the first."""
    assert main(["export", f"--workdir={run}", f"--output={folder / 'export'}"]) == 0
    for name, value in (("COORDINATOR_ADDRESS", "nowhere:1"), ("NUM_PROCESSES", "2"), ("PROCESS_ID", "1")):
        monkeypatch.setenv(f"JAX_{name}", value)
    assert main(["export", f"--workdir={run}", f"--output={folder / 'other'}"]) == 0
    assert (folder / "export" / "manifest.json").is_file()
    assert not (folder / "other").exists()


_TASKS = """
import numpy as np
import seqio
import tensorflow as tf

PAIRS = [("say yes", "yes"), ("say no", "no, no"), ("say it again", "again"), ("say", ""), ("more", "a little")]


def rows(split, shuffle_files=False, seed=None):
    return tf.data.Dataset.from_tensor_slices({side: [pair[i] for pair in PAIRS] for i, side in enumerate(SIDES)})


def letters(targets, predictions):
    return {"letters": float(np.mean([len(text) for text in predictions]))}


def likelihood(targets, scores):
    return {"likelihood": float(np.mean(scores))}


SIDES = ("inputs", "targets")
seqio.TaskRegistry.add(
    "said",
    source=seqio.FunctionDataSource(rows, splits=["validation"]),
    preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
    output_features={side: seqio.Feature(seqio.ByteVocabulary(extra_ids=1)) for side in SIDES},
    metric_fns=[letters, likelihood],
)
"""


@pytest.mark.slow
def test_two_processes_evaluate_tasks_as_one(train, tmp_path):
    (tmp_path / "said.py").write_text(_TASKS)
    (tmp_path / "text.txt").write_text("\n".join(f"say {number} again, and then no more" for number in range(99)))
    text = Files((str(tmp_path / "text.txt"),), unit="line")
    store = prepare(text, "text", tmp_path / "store", VocabularyChoice("bytes"), tiny.WINDOW, 0.2, 1)
    values = {"vocabulary": 260, "window": tiny.WINDOW, "store": store.path, "cache": tmp_path / "cache"}
    tasks = "\nRunConfig.eval_tasks = ('said',)\nRunConfig.eval_tasks_every = 6\nRunConfig.eval_tasks_batch = 4\n"
    best = "CheckpointConfig.keep_best = 'said/likelihood'\n"
    (tmp_path / "tasks.gin").write_text(_GIN.format(**values) + tasks + best)
    verb = ("train", f"--gin_file={tmp_path / 'tasks.gin'}", f"--module={tmp_path / 'said.py'}")
    found = []
    for count in (1, 2):
        workdir = tmp_path / str(count)
        with train(workdir, count, 4 // count, verb=verb) as group:
            group.finish()
            assert "said/likelihood" in group.said(0)
            assert count == 1 or "said/likelihood" not in group.said(1)
        found.append(lines(workdir))
    assert_same(tmp_path / "2", found[0])
    for ours, theirs in zip(*found, strict=True):
        asked = {name for name in theirs if name.startswith("said/")}
        assert asked == ({"said/letters", "said/likelihood"} if theirs["step"] in (6, 12) else set())
        for name in asked:
            # The sum over tens of tokens of differences that `assert_same` allows.
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4)


@pytest.mark.slow
def test_one_of_four_is_killed_and_one_process_goes_on(train, alone, tmp_path):
    workdir = tmp_path / "run"
    with train(workdir, 4, pause=0.5) as group:
        group.until(logged(workdir, 6))
        group.processes[2].kill()
        statuses = group.wait(30)
        assert statuses == {0: 1, 1: 1, 2: -signal.SIGKILL, 3: 1}
        for number in (0, 1, 3):
            assert "triarch train: error: process 2 (host " in group.said(number)
            assert "ended without a word (killed, or its machine went away); run all again" in group.said(number)
            assert "Traceback" not in group.said(number)
    assert steps_saved(workdir) == [4]
    with train(workdir, 1, 8) as group:
        group.finish()
        assert "going on from step 4" in group.said(0)
    assert_same(workdir, alone[8])


@pytest.mark.slow
def test_one_is_told_to_stop_and_all_do_at_the_same_step(train, alone, tmp_path):
    """From one process to four, to two, to one."""
    workdir = tmp_path / "run"
    with train(workdir, 1, 8, pause=0.3) as group:
        group.until(logged(workdir, 2))
        group.processes[0].terminate()
        group.finish()
    (first,) = steps_saved(workdir)
    with train(workdir, 4, pause=0.5) as group:
        group.until(logged(workdir, first + 1))
        group.processes[3].terminate()
        group.finish()
        assert f"going on from step {first}" in group.said(0)
        assert "; run again to resume" in group.said(0)
    *_, before, second = steps_saved(workdir)
    assert first < second < 12
    flip_a_bit(max((workdir / "checkpoints" / str(second)).rglob("d/*"), key=lambda path: path.stat().st_size))
    with train(workdir, 2) as group:
        group.finish()
        assert f"checkpoint {second} is damaged" in group.said(0)
        assert f"going on from step {before}" in group.said(0)
    assert_same(workdir, alone[8])


@pytest.mark.slow
def test_processes_that_are_not_of_one_run(train, gin, tmp_path):
    there = f"--workdir={tmp_path / 'there'}"
    here = f"--workdir={tmp_path / 'here'}"
    with train(None, 2, own={0: [there], 1: [there, "--gin.Cosine.peak=1e-3"]}) as group:
        assert set(group.wait().values()) == {1}
        assert "process 1 (host " in group.said(1)
        changed = "was started with another run than process 0 (optimizer.learning_rate.peak: 0.003 -> 0.001)"
        assert changed in group.said(1)
        assert changed in group.said(0)
    with train(None, 2, own={0: [there], 1: [here]}) as group:
        assert set(group.wait().values()) == {1}
        blind = f"cannot see {tmp_path / 'there'} of process 0: --workdir must be one folder that all hosts share"
        for number in (0, 1):
            assert "process 1 (host " in group.said(number)
            assert blind in group.said(number)


@pytest.mark.slow
def test_a_missing_process_is_named(train, tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    with train(None, 2, own={0: [workdir, "--startup_timeout=2"]}, absent=[1]) as group:
        assert group.wait() == {0: 1}
        assert "triarch train: error: process 1 of 2 did not arrive at localhost:" in group.said(0)
        assert "Traceback" not in group.said(0)
    assert not (tmp_path / "run").exists()

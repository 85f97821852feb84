"""`triarch evaluate --tasks` on local files."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import signal
import time

import numpy as np
import pytest

from tests.interchange import exports
from tests.models import tiny
from tests.training import tiny as training_runs
from tests.training.tiny import python
from triarch.cli.main import main
from triarch.data.manifest import Split, StoreManifest
from triarch.data.writer import StoreWriter
from triarch.interchange import Origin
from triarch.report.tasks_table import read_tasks
from triarch.tokenizers import ByteTokenizer
from triarch.training import CheckpointConfig, train
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Cosine

pytest.importorskip("lm_eval")

VOCABULARY = dataclasses.asdict(ByteTokenizer().info)
OBJECTIVES = {"encoder-only": "MaskedLM", "decoder-only": "CausalLM", "encoder-decoder": "PrefixLM"}
CONFIGS = {"decoder": tiny.DECLLM, "two sides": tiny.REDLLM, "encoder": tiny.ETTIN_ENCODER}
COPA = [
    {"query": f"It rained {i} days, therefore", "choices": ["we ate.", "it was wet."], "gold": i % 2} for i in range(5)
]
LAMBADA = [{"text": f"one two three {i} and then four"} for i in range(3)]
GSM8K = [{"question": f"{i} + 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"} for i in range(3)]


def export(folder, config):
    folder.mkdir(parents=True, exist_ok=True)
    origin = Origin({"class": OBJECTIVES[config.architecture]}, VOCABULARY, 1, {"run": "tiny"})
    return exports.export(folder, dataclasses.replace(config, vocab_size=260), origin)


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write(folder / "copa.jsonl", COPA)
    write(folder / "deeper" / "lambada_test.jsonl", LAMBADA)
    write(folder / "gsm8k" / "test.jsonl", GSM8K)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export(tmp_path_factory.mktemp("model"), tiny.DECLLM)


def run(model, data, tasks, path, *flags):
    arguments = [f"--model={model}", f"--tasks={tasks}", f"--task_data={data}", f"--json={path}", "--max_length=320"]
    assert main(["evaluate", *arguments, *flags]) == 0
    return json.loads(path.read_text())


def expected_lambada():
    """Returns the accuracy and perplexity of LAMBADA's last words, text by text, from logits."""
    config = dataclasses.replace(tiny.DECLLM, vocab_size=260)
    totals, right = [], []
    for row in LAMBADA:
        tokens = np.array([0, *(row["text"].encode())], np.int32) + 3
        tokens[0] = 0
        logits = tiny.logits(config, {"decoder_input_tokens": tokens[None, :-1]})[0, -5:].astype(np.float64)
        log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        totals.append(log_probabilities[np.arange(5), tokens[-5:]].sum())
        right.append((logits.argmax(-1) == tokens[-5:]).all())
    return np.mean(right), math.exp(-np.mean(totals))


def test_own_tasks_and_their_numbers(model, data, tmp_path):
    (tmp_path / "suite.gin").write_text("TaskSuite.tasks = {'copa': 0}\n")
    suite, output = f"--task_suite={tmp_path / 'suite.gin'}", f"--output={tmp_path / 'out'}"
    (whole,) = run(model, data, "lambada", tmp_path / "result.json", suite, output)["models"]
    found = {(one["task"], one["metric"]): one for one in whole["results"]}
    with (tmp_path / "out" / "tasks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["task"], row["metric"]) for row in rows] == list(found)
    assert [float(row["value"]) for row in rows] == pytest.approx([one["value"] for one in whole["results"]])
    assert {(row["run"], row["step"], row["tokens"], row["scoring"]) for row in rows} == {
        ("tiny", "1", "", "log-likelihood")
    }
    accuracy, perplexity = expected_lambada()
    assert found["lambada", "acc"]["value"] == accuracy
    assert found["lambada", "perplexity"]["value"] == pytest.approx(perplexity, rel=1e-4)
    copa = found["copa", "acc"]
    # The standard error of a mean of zeros and ones.
    p = copa["value"]
    assert copa["standard_error"] == pytest.approx(math.sqrt(p * (1 - p) / 4))
    assert (copa["num_examples"], copa["num_fewshot"]) == (5, 0)
    assert list(copa["files"]) == ["copa.jsonl"]
    kept = (tmp_path / "result.answers.jsonl").read_text().splitlines()
    assert len(kept) == 1 + 3 + 2 * 5


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture(name, data, tmp_path):
    model = export(tmp_path / "model", CONFIGS[name])
    result = run(model, data, "lambada,copa,gsm8k", tmp_path / "result.json", "--num_fewshot=1", "--limit=2")
    (found,) = result["models"]
    assert {one["task"] for one in found["results"]} == {"lambada", "copa", "gsm8k"}
    assert all(one["num_examples"] == 2 and one["num_fewshot"] == 1 for one in found["results"])
    assert ("pseudo" in found["scoring"]) == (name == "encoder")


KILLED = "import sys; from triarch.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
def test_a_killed_evaluation_goes_on(model, data, tmp_path):
    whole = run(model, data, "gsm8k,copa,lambada", tmp_path / "whole.json", "--batch_size=1")
    path, answers = tmp_path / "killed.json", tmp_path / "killed.answers.jsonl"
    flags = [f"--model={model}", "--tasks=gsm8k,copa,lambada", f"--task_data={data}", "--max_length=320"]
    process = python(KILLED, "evaluate", *flags, "--batch_size=1", f"--json={path}")
    deadline = time.time() + 300
    while time.time() < deadline and (not answers.exists() or answers.read_bytes().count(b"\n") < 3):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = answers.read_bytes()
    assert 3 <= kept.count(b"\n") < 1 + 3 + 10 + 3 and not path.exists()
    assert run(model, data, "gsm8k,copa,lambada", path, "--batch_size=1")["models"] == whole["models"]
    # What was answered stands as it was.
    assert answers.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
    assert answers.read_bytes().count(b"\n") == 1 + 3 + 10 + 3


def complaint(capsys, *flags):
    assert main(["evaluate", *map(str, flags)]) == 1
    shown = capsys.readouterr().err.strip().splitlines()[-1]
    assert shown.startswith("triarch evaluate: error: ")
    return shown.removeprefix("triarch evaluate: error: ")


def test_data_that_are_not_right(model, tmp_path, capsys):
    def complain(tasks, *flags):
        return complaint(capsys, f"--model={model}", f"--tasks={tasks}", f"--task_data={tmp_path}", *flags)

    assert complain("copa") == f"task copa reads one file **/copa*.jsonl* in {tmp_path}: there is none"
    write(tmp_path / "copa.jsonl", [COPA[0], {"query": "a", "choices": ["b", "c"]}])
    assert "copa.jsonl: row 2 has no 'gold' or an empty one" in complain("copa")
    write(tmp_path / "copa.jsonl", [{"query": "a", "gold": 0}])
    assert "row 1 has no 'choices' or an empty one, and task copa needs it (the file has query, gold)" in complain(
        "copa"
    )
    (tmp_path / "copa.jsonl").write_text("{not json\n")
    assert complain("copa").startswith("task copa: ")
    write(tmp_path / "copa.jsonl", COPA)
    write(tmp_path / "copa_train.jsonl", COPA)
    assert "there are" in complain("copa")
    (tmp_path / "copa_train.jsonl").unlink()
    assert complain("copa", "--num_fewshot=5") == "task copa: 5 shots asked for, and it has 5 examples in all"
    write(tmp_path / "copa.jsonl", [COPA[0] | {"choices": ["", "b"]}])
    assert "row 1 has no 'choices' or an empty one" in complain("copa")
    write(tmp_path / "gsm8k" / "test.jsonl", GSM8K)
    assert "--max_length=256 leaves none for the prompt" in complain("gsm8k", "--max_length=256")


ROLLING = """
task: texts
dataset_path: json
dataset_kwargs: {data_files: {test: "lines*"}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{text}}"
"""


def test_tasks_of_ones_own_and_what_an_encoder_cannot_do(model, tmp_path, capsys):
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "texts.yaml").write_text(ROLLING)
    (folder / "broken.yaml").write_text(ROLLING.replace("texts", "broken").replace("{{text}}", "{{txt}}"))
    write(tmp_path / "lines.jsonl", LAMBADA)
    flags = (f"--include_path={folder}", f"--task_data={tmp_path}", "--max_length=16")
    encoder = export(tmp_path / "encoder", tiny.ETTIN_ENCODER)
    said = complaint(capsys, f"--model={encoder}", "--tasks=texts", *flags)
    assert said.startswith("task texts asks for the likelihood of whole texts, which an encoder does not have")
    assert "its data lack a field: 'txt' is undefined" in complaint(
        capsys, f"--model={model}", "--tasks=broken", *flags
    )
    result = tmp_path / "result.json"
    assert main(["evaluate", f"--model={model}", "--tasks=texts", *flags, f"--json={result}"]) == 0
    found = {one["metric"]: one["value"] for one in json.loads(result.read_text())["models"][0]["results"]}
    assert found["bits_per_byte"] == pytest.approx(expected_bits(), rel=1e-4)


def expected_bits():
    """Returns bits a byte of whole texts of at most 32 bytes, read in two windows of at most 16 tokens."""
    config = dataclasses.replace(tiny.DECLLM, vocab_size=260)
    nats = 0.0
    for row in LAMBADA:
        tokens = np.array([0, *(byte + 3 for byte in row["text"].encode())], np.int32)
        assert 16 < len(tokens) - 1 <= 32
        second = slice(len(tokens) - 17, len(tokens) - 1)
        for part, count in ((slice(0, 16), 16), (second, len(tokens) - 17)):
            logits = tiny.logits(config, {"decoder_input_tokens": tokens[None, part]})[0].astype(np.float64)
            targets = tokens[part.start + 1 : part.stop + 1]
            losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(16), targets]
            nats += losses[-count:].sum()
    return nats / math.log(2) / sum(len(row["text"]) for row in LAMBADA)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tasks=,"], "--tasks=,: names no task"),
        (["--tasks=copa", "--task_data=nowhere"], "nowhere: no such folder"),
        (["--tasks=copa", "--include_path=nowhere"], "nowhere: no such folder"),
        (["--tasks=copa", "--limit=0"], "--limit=0: expected a whole number from 1 on"),
        (["--tasks=copa", "--num_fewshot=-1"], "--num_fewshot=-1: expected a whole number from 0 on"),
        (["--tasks=copa", "--max_length=1"], "--max_length=1: expected a whole number from 2 on"),
        (["--tasks=copa", "--batch_size=0"], "--batch_size=0: expected a whole number from 1 on"),
        (["--tasks=copa", "--pseudo=wrod"], "--pseudo=wrod (did you mean 'word'?)"),
        (["--task_suite=redlm"], "no gin file evaluation/redlm.gin (did you mean 'evaluation/redllm.gin'?)"),
        (["--tasks=copa", "--in_domain=store"], "tasks are evaluated by themselves"),
        (["--tasks=copa", "--task_data=.", "--model=other"], "other: no such run or export"),
        (["--tasks=copa", "--seed=3"], "--seed is for stores: tasks have no use for it"),
        (["--tasks=copa", "--step=1,b"], "--step=1,b: expected numbers of checkpoints between commas"),
        (["--tasks=copa", "--task_data=.", "--step=3"], "an export holds one step: none can be chosen"),
        (["--in_domain=store", "--step=all"], "--step=all: expected the number of a checkpoint; several of them go"),
        (["--in_domain=store", "--limit=3"], "--limit is for tasks: name some with --tasks=NAMES or --task_suite=NAME"),
        (["--suite=store", "--task_data=."], "--task_data is for tasks"),
        (["--tasks="], "--tasks=: expected a value"),
    ],
)
def test_bad_flags(flags, message, model, capsys):
    assert message in complaint(capsys, f"--model={model}", *flags)


@pytest.mark.slow
def test_a_task_that_nobody_has(data, capsys):
    """Told before the model is looked at, and without importing the harness."""
    said = complaint(capsys, "--model=none", "--tasks=copa,copaa", f"--task_data={data}")
    assert said == "no task 'copaa' (did you mean 'copa'?)"


def trained(folder):
    """Trains four steps with a checkpoint every two, on text of the vocabulary of bytes; returns the run."""
    windows = np.random.default_rng(0).integers(3, 259, (64, 16), dtype=np.int32)
    with StoreWriter(folder / "store", 16, "uint16") as writer:
        splits = {}
        for name in ("train", "validation"):
            writer.write(name, windows)
            splits[name] = Split(64, 64, windows.size, 0, windows.size, writer.finish_files(name))
        manifest = StoreManifest("tiny", "windows", 16, "uint16", ByteTokenizer().info, splits, {})
        writer.finish(manifest, ByteTokenizer().token_bytes)
    config = training_runs.run_config(
        folder / "store", model=dataclasses.replace(tiny.DECLLM, vocab_size=260), steps=4, batch_size=2,
        checkpoint=CheckpointConfig(every=2, keep_last=2), optimizer=AdamW(Cosine(1e-3, warmup_steps=1)),
    )  # fmt: skip
    assert train(config, folder / "run", "# tiny")["status"] == "complete"
    return folder / "run"


@pytest.mark.slow
def test_checkpoints_of_a_run_one_after_the_other(data, tmp_path, capsys):
    """Each by itself gives the same numbers; killed or not, what was answered is not asked again."""
    runs = trained(tmp_path)
    flags = ["--tasks=copa", f"--task_data={data}", f"--output={tmp_path / 'study' / 'analysis'}"]
    result = tmp_path / "all.json"
    assert main(["evaluate", f"--model={runs}", "--step=all", *flags, f"--json={result}"]) == 0
    found = json.loads(result.read_text())["models"]
    assert [one["step"] for one in found] == [2, 4]
    assert [one["tokens"] for one in found] == [2 * 2 * 16, 4 * 2 * 16]
    assert found[1]["flops_paper"] == 2 * found[0]["flops_paper"] > 0
    points = [one for one in read_tasks(tmp_path / "study" / "analysis" / "tasks.csv") if one.question.metric == "acc"]
    assert [(one.run, one.step, one.so_far["tokens"]) for one in points] == [("run", 2, 64), ("run", 4, 128)]
    assert {one.question.title for one in points} == {"copa, acc, 0-shot"}
    assert "==> run, step 4" in capsys.readouterr().out
    for one in found:
        kept = tmp_path / f"all.run-{one['step']}.answers.jsonl"
        assert len(kept.read_text().splitlines()) == 1 + 2 * 5
        alone = tmp_path / "alone.json"
        assert main(["evaluate", f"--model={runs}", f"--step={one['step']}", *flags, f"--json={alone}"]) == 0
        assert json.loads(alone.read_text())["models"] == [one]
        (tmp_path / "alone.answers.jsonl").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["redllm", "ettin", "local"])
def test_suites_name_tasks_that_there_are(name):
    from lm_eval.tasks import TaskManager

    from triarch.cli.gin.files import build, parse
    from triarch.evaluation.few_shot.names import OWN_TASKS

    parse([f"evaluation/{name}.gin"], [])
    known = TaskManager(include_path=str(OWN_TASKS)).all_tasks
    assert set(build("TaskSuite").tasks) <= set(known)

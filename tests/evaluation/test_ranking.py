"""Rank classification: likelihoods by hand, summaries, what was trained on after all, and files that are none."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import triarch
from tests.training import tiny
from triarch.cli.main import main
from triarch.errors import UserError
from triarch.evaluation.overlap import by_task
from triarch.evaluation.ranking import Question, Ranked, differences, read_questions, summarise
from triarch.objectives import SpecialTokens, Supervised
from triarch.prepare.corpora.instructions import Instructions
from triarch.prepare.pipeline import VocabularyChoice, prepare
from triarch.training import DataConfig, train

INPUTS, TARGETS = 20, 12


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """DecLLM + BiAttn after a step on sums; it has not learned them."""
    folder = tmp_path_factory.mktemp("ranking")
    rows = [{"inputs": f"{n} + 1 =", "targets": str(n + 1), "task": f"sums/{n % 2}:1.0"} for n in range(60)]
    rows_file = write(folder / "rows.jsonl", rows)
    lengths = {"inputs": INPUTS, "targets": TARGETS}
    corpus, choice = Instructions((str(rows_file),)), VocabularyChoice("bytes")
    prepare(corpus, "rows", folder / "store", choice, 1, 0.0, 1, layout="pairs", lengths=lengths)
    config = tiny.run_config(
        folder / "store",
        model=tiny.model("decoder-only", vocab_size=260),
        objective=Supervised(INPUTS, TARGETS, bidirectional_prefix=True),
        data=DataConfig(INPUTS + TARGETS, str(folder / "store")),
        steps=1,
        batch_size=4,
        optimizer=tiny.AdamW(tiny.Cosine(3e-3, warmup_steps=0)),
    )
    train(config, folder / "run", "")
    return folder / "run"


@pytest.mark.slow
def test_likelihoods_are_those_of_training(run, tmp_path, capsys):
    """Of the tokens of inputs and targets as a store has them, ends included."""
    asked = [{"inputs": "7 + 1 =", "choices": ["8", "Eleven"], "targets": "8", "task": "sums", "cluster": "numbers"}]
    asked += [{"inputs": "Is it?", "choices": ["no", "yes", "perhaps"], "answer": 1, "task": "other"}]
    file = write(tmp_path / "asked.jsonl", asked)
    flags = [
        "evaluate",
        f"--model={run}",
        f"--rank_file={file}",
        f"--output={tmp_path}",
        f"--json={tmp_path / 'a.json'}",
    ]
    assert main(flags) == 0
    answers = [json.loads(line) for line in (tmp_path / "ranks.jsonl").read_text().splitlines()]
    model = triarch.load(run)
    special = SpecialTokens.from_manifest(model.vocabulary["special"])
    features = Supervised(INPUTS, TARGETS, True).transform("decoder-only", special, 260, INPUTS + TARGETS)
    for row, answer in zip(asked, answers, strict=True):
        wanted = []
        for choice in row["choices"]:
            pair = [np.append(model.tokenizer.encode(text), special.eos) for text in (row["inputs"], choice)]
            batch = {
                name: value[None]
                for name, value in features(dict(zip(("inputs", "targets"), pair, strict=True)), None).items()
            }
            logits = model.logits(batch)[0].astype(np.float64)
            picked = np.take_along_axis(logits, batch["decoder_target_tokens"][0][:, None], axis=1)[:, 0]
            losses = np.log(np.exp(logits).sum(axis=1)) - picked
            wanted.append(-(losses * batch["decoder_loss_weights"][0]).sum())
        np.testing.assert_allclose(answer["log_likelihoods"], wanted, rtol=2e-5)
        assert answer["is_right"] == (np.argmax(wanted) == answer["right"])
    result = json.loads((tmp_path / "a.json").read_text())["models"][0]
    assert result["trained_on"] == {"tasks": {"sums": ["sums/0:1.0", "sums/1:1.0"]}, "equal_inputs": {"sums": 1}}
    told = capsys.readouterr().err
    assert f"warning: {run} was trained on sums/0:1.0, sums/1:1.0, and sums is evaluated" in told
    assert f"warning: {run} was trained on the very inputs of 1 questions of sums" in told


@pytest.mark.slow
def test_prompts_of_the_harness_that_were_trained_on(run, tmp_path, capsys):
    """By their text, whatever the task is called and whatever space is around them."""
    pytest.importorskip("lm_eval")
    asked = [{"question": f"{text}\n", "right": 0, "choices": ["a", "b"]} for text in ("7 + 1 =", "What?", "9 + 1 =")]
    file = write(tmp_path / "quiz.jsonl", asked)
    flags = [f"--task_file={file}", "--question=question", "--choices=choices", "--answer=right"]
    assert main(["evaluate", f"--model={run}", *flags, f"--json={tmp_path / 'a.json'}"]) == 0
    (result,) = json.loads((tmp_path / "a.json").read_text())["models"]
    assert result["trained_on"] == {"tasks": {}, "equal_inputs": {"quiz": 2}}
    assert f"warning: {run} was trained on the very inputs of 2 questions of quiz" in capsys.readouterr().err


def ranked(task, cluster, right, *likelihoods):
    question = Question("?", tuple("abc"[: len(likelihoods)]), right, task, cluster)
    return Ranked(question, likelihoods, tuple(range(1, 1 + len(likelihoods))))


def test_summaries_by_hand():
    """Two clusters, one of two tasks; each cluster counts alike in the mean."""
    first = [ranked("x", "one", 0, -1, -2), ranked("x", "one", 1, -1, -2), ranked("y", "one", 2, -3, -2, -1)]
    first += [ranked("z", "two", 0, -1, -2), ranked("z", "two", 0, -2, -1)]
    found = {(one.level, one.name): one for one in summarise(first)}
    one, two = found["cluster", "one"], found["cluster", "two"]
    assert (one.num_examples, one.accuracy, one.chance) == (3, 2 / 3, pytest.approx((0.5 + 0.5 + 1 / 3) / 3))
    assert one.standard_error == pytest.approx(np.std([1, 0, 1], ddof=1) / math.sqrt(3))
    assert one.majority == pytest.approx((1 + 1) / 3)
    assert one.accuracy_by_token == pytest.approx(2 / 3)
    mean = found["mean of clusters", "all"]
    assert mean.accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert mean.standard_error == pytest.approx(math.hypot(one.standard_error, two.standard_error) / 2)
    second = [*first[:1], ranked("x", "one", 1, -2, -1), *first[2:]]
    gains = differences(first, second)
    assert gains["one"] == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert gains["two"] == (0, 0)


def test_names_of_tasks_are_compared_word_by_word(run):
    from triarch.evaluation.overlap import trained_stores

    stores, split = trained_stores(run)
    found = by_task(stores, split, ["sums", "sum", "cot_sums_fewshot", "sums_1", "um", "flan_cot"])
    both = ["sums/0:1.0", "sums/1:1.0"]
    assert found == {"sums": both, "cot_sums_fewshot": both, "sums_1": ["sums/1:1.0"]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"choices": ["a", "b"], "targets": "a"}, "no field 'inputs'"),
        ({"inputs": "?", "choices": ["a"], "targets": "a"}, "expected choices to be a list of two texts or more"),
        ({"inputs": "?", "choices": ["a", "a"], "targets": "a"}, "a choice is there twice"),
        ({"inputs": "?", "choices": ["a", "b"], "targets": "c"}, "the right choice is 'c', expected one of 'a', 'b'"),
        ([1], "expected an object, found list"),
    ],
)
def test_rows_that_are_no_questions(row, message, tmp_path):
    path = write(tmp_path / "asked.jsonl", [row])
    with pytest.raises(UserError) as error:
        read_questions(path)
    assert str(error.value).startswith(f"{path}:1: ")
    assert message in str(error.value)

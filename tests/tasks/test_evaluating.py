"""`triarch evaluate --seqio_task` and `RunConfig.eval_tasks` as a user meets them: the page of the docs, bad input."""

import functools
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import seqio
import tensorflow as tf

import triarch
from tests.tasks import evaluated
from tests.training import tiny
from triarch.cli import modules
from triarch.cli.gin import files as gin_files
from triarch.cli.main import main
from triarch.decoding import Generator
from triarch.loading import load
from triarch.objectives import PrefixLM
from triarch.prepare.corpora.files import Files
from triarch.prepare.pipeline import VocabularyChoice, prepare
from triarch.training import CheckpointConfig, DataConfig

PAGE = Path(__file__).parents[2] / "docs" / "evaluating_tasks.md"
TASK, LOAD = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
_EVALUATE, _TRAIN = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
loaded = functools.cache(load)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return evaluated.write_models(tmp_path_factory.mktemp("models"), ("both", "encoder", "short"))


@pytest.fixture(scope="module")
def shared_model(models):
    """Opened once: a model's programs are compiled once for all tests that do not look at its opening."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("triarch.loading.load", lambda path, step=None, placement=None: loaded(path))
        yield models


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the page has: a module, a gin file, stores."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "my_tasks.py").write_text(TASK)
    lines = (json.dumps({"text": f"sentiment: text {number} is good"}) for number in range(64))
    (folder / "texts.jsonl").write_text("\n".join(lines))
    store = prepare(
        Files((str(folder / "texts.jsonl"),)), "test", folder / "store", VocabularyChoice("bytes"), 32, 0.1, 1
    )
    run = tiny.run_config(
        "",
        "encoder-decoder",
        objective=PrefixLM(),
        model=tiny.model("encoder-decoder", vocab_size=260, num_encoder_layers=1, num_decoder_layers=1),
        data=DataConfig(32, str(store.path)),
        steps=6,
        tensorboard=True,
        checkpoint=CheckpointConfig(every=100, keep_last=1),
    )
    (folder / "run.gin").write_text(gin_files.render(run))
    return folder


@pytest.fixture
def page(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = list(sys.path)
    yield folder
    sys.path[:] = before
    modules._FROM_FILES.clear()
    sys.modules.pop("my_tasks", None)
    if "sentiment" in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove("sentiment")


def words(command):
    return shlex.split(command.replace("\\\n", " "))[1:]


def again():
    """As a new process: the module is imported anew, and registers its task once more."""
    modules._FROM_FILES.clear()
    sys.modules.pop("my_tasks", None)
    if "sentiment" in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove("sentiment")


def scalars(folder):
    """Returns TensorBoard's values by tag and step."""
    found = {}
    for path in sorted(Path(folder).glob("events.*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


@pytest.mark.slow
def test_the_page_is_true(page, capsys):
    """Trained with the page's flags, loaded by its Python, evaluated by its command: equal to what training logged."""
    train = [word.replace("eval_tasks_every=100", "eval_tasks_every=2") for word in words(_TRAIN)]
    train = [word for word in train if not word.startswith(("--gin_file", "--gin.DataConfig"))]
    train.append("--gin_file=run.gin")
    assert main(train) == 0, capsys.readouterr().err
    logged = {}
    for line in map(json.loads, Path("runs/tuned/metrics.jsonl").read_text().splitlines()):
        if "sentiment/accuracy" in line:
            logged[line["step"]] = (line["sentiment/accuracy"], line["sentiment/log_likelihood"])
    assert list(logged) == [2, 4, 6]
    names = {}
    exec(LOAD, names)
    best = max(logged, key=lambda step: (logged[step][0], -step))
    assert names["model"].origin.step == best
    assert triarch.load("runs/tuned").origin.step == 6
    assert list(scalars("runs/tuned/tensorboard")["sentiment/accuracy"]) == [2, 4, 6]

    again()
    capsys.readouterr()
    evaluate = [word.replace("runs/first", "runs/tuned") for word in words(_EVALUATE)]
    assert main([*evaluate, "--step=all", "--json=all.json"]) == 0, capsys.readouterr().err
    found = json.loads(Path("all.json").read_text())
    assert found == json.loads(Path("results/seqio_tasks.json").read_text())
    checkpoints = found.get("checkpoints", [found])
    assert {one["step"] for one in checkpoints} == {best, 6}
    for one in checkpoints:
        accuracy, likelihood = logged[one["step"]]
        assert one["seqio_tasks"]["sentiment"]["accuracy"] == accuracy
        # During training the devices and programs are the same, the batch is too.
        assert one["seqio_tasks"]["sentiment"]["log_likelihood"] == pytest.approx(likelihood, rel=1e-6)
    assert "sentiment/accuracy" in scalars("results/tensorboard")


def evaluate(model, *flags):
    return main(["evaluate", f"--model={model}", *map(str, flags)])


def error_of(capsys, *argv):
    capsys.readouterr()
    assert evaluate(*argv) == 1
    error = capsys.readouterr().err
    error = "".join(line for line in error.splitlines(True) if not re.match(r"[EWI]\d{4} ", line))
    assert error.count("\n") == 1 and len(error) < 500, error
    return error


@pytest.mark.slow
def test_a_killed_evaluation_resumes(shared_model, tmp_path, monkeypatch):
    """Killed after one batch: what was kept is not decoded again, and the results are those of one that was not."""
    evaluated.register("ev_kept", [evaluated.accuracy, evaluated.mean_score], evaluated.to_label)
    flags = ("--seqio_task=ev_kept", "--batch_size=2")
    assert evaluate(shared_model / "both", *flags, f"--output={tmp_path / 'whole'}") == 0
    calls, generate = [], Generator.generate

    def killed(self, prompts, *given):
        calls.append(len(prompts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(self, prompts, *given)

    monkeypatch.setattr(Generator, "generate", killed)
    output = tmp_path / "killed"
    assert evaluate(shared_model / "both", *flags, f"--output={output}") == 130
    assert not (output / "seqio_tasks.json").exists()
    assert evaluate(shared_model / "both", *flags, f"--output={output}") == 0
    assert calls == [2, 2, 2, 1]
    for name in ("seqio_tasks.json", "ev_kept.predictions.jsonl"):
        assert (output / name).read_text() == (tmp_path / "whole" / name).read_text()
    kept = (output / "seqio_tasks.answers.jsonl").read_text().splitlines()
    assert json.loads(kept[0]).keys() > {"parameters", "network", "vocabulary", "reading"}
    assert len(kept) == 1 + 2 * len(evaluated.PAIRS)


def test_kept_predictions_are_of_one_model(shared_model, tmp_path, capsys):
    evaluated.register("ev_kept", [evaluated.mean_score])
    flags = ("--seqio_task=ev_kept", f"--output={tmp_path}")
    assert evaluate(shared_model / "both", *flags) == 0
    assert "holds answers given under another parameters" in error_of(capsys, shared_model / "short", *flags)


def test_an_encoder_scores_and_says_what_it_cannot(shared_model, tmp_path, capsys):
    evaluated.register("ev_label", [evaluated.accuracy], evaluated.to_label)
    evaluated.register("ev_both", [evaluated.accuracy, evaluated.mean_score])
    flags = ("--seqio_task=ev_label,ev_both", f"--json={tmp_path / 'found.json'}")
    assert evaluate(shared_model / "encoder", *flags) == 0
    said = capsys.readouterr().out
    wanted = (
        "left out, for an encoder makes no predictions: task ev_label: its metrics ask for predictions, which an "
        "encoder does not make; task ev_both: its metrics of predictions\n"
    )
    assert said.startswith(wanted)
    found = json.loads((tmp_path / "found.json").read_text())["seqio_tasks"]
    assert list(found) == ["ev_both"] and list(found["ev_both"]) == ["mean_score", "shape"]
    model = triarch.load(shared_model / "encoder")
    examples = [(one, f"{other}") for one, other in evaluated.PAIRS]
    # The targets' end is scored too, which has no text: the score of the rest is greater.
    assert found["ev_both"]["mean_score"] < sum(one.log_likelihood for one in model.score(examples)) / len(examples)
    error = error_of(capsys, shared_model / "encoder", "--seqio_task=ev_label")
    assert error.endswith("task ev_label: its metrics ask for predictions, which an encoder does not make\n")


def failing(targets, predictions):
    return {"share": 1 / 0}


def test_mixtures_stand_for_their_tasks(shared_model, tmp_path, capsys):
    evaluated.register("ev_a", [evaluated.mean_score])
    evaluated.register("ev_b", [evaluated.mean_score], rows=evaluated.PAIRS[:2])
    evaluated.register("ev_none", [])
    for name, parts in (("ev_mixture", ["ev_a", "ev_b", "ev_none"]), ("ev_empty_mixture", ["ev_none"])):
        if name in seqio.MixtureRegistry.names():
            seqio.MixtureRegistry.remove(name)
        seqio.MixtureRegistry.add(name, parts, default_rate=1.0)
    flags = ("--seqio_task=ev_mixture,ev_a", f"--json={tmp_path / 'found.json'}", "--limit=3")
    assert evaluate(shared_model / "both", *flags) == 0
    assert "left out, without a metric or a split 'validation': ev_none" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["num_examples"] == {"ev_a": 3, "ev_b": 2}
    error = error_of(capsys, shared_model / "both", "--seqio_task=ev_empty_mixture")
    assert "mixture ev_empty_mixture: none of its tasks has both a metric and a split 'validation'" in error


def test_bad_input_is_one_line(shared_model, capsys, tmp_path):
    register = functools.partial(evaluated.register, metric_fns=[evaluated.accuracy])
    evaluated.register("bad_none", [])
    own = tmp_path / "own.py"
    own.write_text("")
    register("bad_metric", metric_fns=[failing])
    register("bad_long", rows=[("short", "t" * 60)])
    register("bad_vocabulary", vocabulary=seqio.PassThroughVocabulary(260, eos_id=7), preprocessors=[])
    register("bad_size", vocabulary=seqio.ByteVocabulary(extra_ids=100))
    register("bad_targets", features=("targets",))
    register("bad_twice", metric_fns=[evaluated.accuracy, lambda targets, predictions: {"accuracy": 1.0}])
    register("bad_raw", preprocessors=[seqio.preprocessors.rekey])
    model, at = shared_model / "both", "--seqio_task="
    cases = [
        (
            (at + "bad_non",),
            "no SeqIO task or mixture 'bad_non' in any module: name its own with --module (did you mean",
        ),
        (
            (at + "bad_non", f"--module={tmp_path / 'own.py'}"),
            f"'bad_non' in --module={tmp_path / 'own.py'} (did you mean",
        ),
        ((at + "bad_none",), "task bad_none has no metric_fns or metric_objs: there is nothing to evaluate"),
        ((at + "bad_metric", "--seqio_split=tran"), "task bad_metric has no split 'tran' (did you mean 'train'?)"),
        ((at + "bad_metric", "--seqio_split=empty"), "task bad_metric: its split 'empty' has no examples"),
        ((at + "bad_metric", "--seqio_lengths=target=3"), "has no feature 'target' (did you mean 'targets'?)"),
        ((at + "bad_metric", "--seqio_lengths=3"), "--seqio_lengths=3: expected lengths of features, as inputs=512,"),
        ((at + "bad_metric", "--num_beams=0"), "--num_beams=0: expected at least 1"),
        ((at + "bad_metric", "--limit=0"), "--limit=0: expected at least 1"),
        ((at + "bad_metric", "--num_fewshot=1"), "--num_fewshot is for tasks"),
        ((at + "bad_metric", "--in_domain=x"), "tasks are evaluated by themselves"),
        ((at + "bad_metric", "--step=9"), "an export holds one step"),
        ((at + "bad_vocabulary",), "task bad_vocabulary"),
        ((at + "bad_size",), "task bad_size: the vocabulary of its inputs has 359 ids, the model knows 260: register"),
        ((at + "bad_targets",), "task bad_targets: example 1 has no inputs, which an encoder-decoder reads"),
        ((at + "bad_twice",), "task bad_twice: two of its metrics are called 'accuracy'"),
        ((at + "bad_raw",), "task bad_raw, split validation: "),
        ((at,), "--seqio_task=: expected a value"),
        (("--num_beams=2", "--in_domain=x"), "--num_beams is for SeqIO tasks: name some with --seqio_task=NAME"),
    ]
    for flags, message in cases:
        assert message in error_of(capsys, model, *flags), flags
    error = error_of(capsys, model, at + "bad_metric")
    assert re.search(
        r"task bad_metric: a metric: \S+test_evaluating.py line \d+: ZeroDivisionError: division by zero", error
    )
    error = error_of(capsys, shared_model / "short", at + "bad_long")
    assert (
        "task bad_long: example 1 has 6 tokens of inputs and room for 61 of targets, the model has positions for 40"
        in error
    )

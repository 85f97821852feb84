"""`triarch evaluate --seqio_task` against `seqio.Evaluator` with a predict_fn made of `triarch.load`."""

import functools
import json

import numpy as np
import pytest
import seqio

from tests.tasks import evaluated
from triarch.cli.main import main
from triarch.decoding import Continuation, Conventions, GenerationSettings, Generator, score
from triarch.loading import load
from triarch.text_model import Model

loaded = functools.cache(lambda path: Model.of(load(path)))


@pytest.fixture(autouse=True)
def _loaded_once(monkeypatch):
    """The verb and the reference share a model, and with it what was compiled."""
    monkeypatch.setattr("triarch.loading.load", lambda path, step=None, placement=None: loaded(path))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return evaluated.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def names():
    return evaluated.register_all()


def run(model, *flags, output=None):
    more = [] if output is None else [f"--output={output}"]
    return main(["evaluate", f"--model={model}", *flags, *more])


def evaluate(model, names, output, *flags):
    assert run(model, f"--seqio_task={','.join(names)}", *flags, output=output) == 0
    return json.loads((output / "seqio_tasks.json").read_text())


def error_of(capsys, *argv):
    capsys.readouterr()
    assert main([str(argument) for argument in argv]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and len(error) < 500, error
    return error


@functools.cache
def generator_of(path):
    model = loaded(path)
    around = Conventions.of(model)
    return Generator(model, start=around.decoder_start, bidirectional_prompt=around.bidirectional_prompt)


@functools.cache
def predicted(path, inputs, length, num_beams):
    """What a model writes after one example's inputs: several tasks have the same."""
    settings = GenerationSettings(max_new_tokens=length, num_beams=num_beams, stop_tokens=((1,),))
    (tokens,) = generator_of(path).generate([list(inputs)], settings)
    row = [*tokens, 1] if len(tokens) < length else tokens
    return row + [0] * (length - len(row))


@functools.cache
def likelihood(path, inputs, tokens):
    model = loaded(path)
    around = Conventions.of(model)
    context = () if model.config.architecture == "encoder-decoder" else around.decoder_start
    given = Continuation(list(inputs), list(tokens), before=context)
    return score(model, [given], max_length=256, bidirectional_context=around.bidirectional_prompt)[0].log_likelihood


def reference(path, name, num_beams=1):
    """SeqIO's own evaluation of a task, by feature converters and one example at a time."""
    two_sided = loaded(path).config.architecture == "encoder-decoder"
    converter = seqio.EncDecFeatureConverter(pack=False) if two_sided else seqio.PrefixLMFeatureConverter(pack=False)
    evaluator = seqio.Evaluator(name, converter, "validation", async_compute_metrics=False)
    (task,) = evaluator.eval_tasks
    examples = list(evaluator.cached_task_datasets[name].as_numpy_iterator())
    inputs, targets = ([tuple(one[side].tolist()) for one in examples] for side in ("inputs", "targets"))
    length = max(map(len, targets))

    def numbers(dataset):
        return [int(index) for index, _ in dataset.as_numpy_iterator()]

    def predict(dataset):
        return [(index, predicted(path, inputs[index], length, num_beams)) for index in numbers(dataset)]

    def scores(dataset):
        return [(index, likelihood(path, inputs[index], targets[index])) for index in numbers(dataset)]

    def with_scores(dataset):
        predictions = predict(dataset)
        ended = [(index, row[: row.index(1) + 1] if 1 in row else row) for index, row in predictions]
        return predictions, {"scores": [likelihood(path, inputs[index], tuple(row)) for index, row in ended]}

    found, outputs = evaluator.evaluate(
        compute_metrics=True, predict_fn=predict, score_fn=scores, predict_with_aux_fn=with_scores
    )
    wanted = [
        task.postprocess_fn(one["targets_pretokenized"].decode(), example=one, is_target=True) for one in examples
    ]
    return found.result()[name], outputs[name], wanted


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["decoder", "prefix", "both"])
def test_metrics_are_those_of_seqio(models, names, kind, tmp_path):
    if kind == "prefix":  # A decoder's in all but what its inputs see.
        names = ["ev_labels", "ev_scores"]
    found = evaluate(models / kind, names, tmp_path)
    assert found["num_examples"] == dict.fromkeys(names, len(evaluated.PAIRS))
    kinds = seqio.metrics.ModelOutputType
    for name in names:
        metrics, outputs, targets = reference(models / kind, name)
        rows = [json.loads(line) for line in (tmp_path / f"{name}.predictions.jsonl").read_text().splitlines()]
        assert [row["target"] for row in rows] == targets
        for metric, value in metrics.items():
            value = getattr(value, "textdata", getattr(value, "value", value))
            ours = found["seqio_tasks"][name][metric]
            if metric in ("mean_score", "confidence"):
                # One row at a time, or in batches: rounding of float32 over a sum of tens of tokens.
                assert ours == pytest.approx(value, rel=1e-5)
            elif isinstance(value, float) and not np.isfinite(value):
                assert ours is None
            else:
                assert ours == value, metric
        assert found["seqio_tasks"][name].keys() == metrics.keys()
        if kinds.PREDICTION in outputs:
            decoded = [evaluated.VOCABULARY.decode(row) for row in outputs[kinds.PREDICTION]]
            assert [row["output"] for row in rows] == decoded
        if kinds.SCORE in outputs:
            np.testing.assert_allclose([row["score"] for row in rows], outputs[kinds.SCORE], rtol=1e-5)


def test_metrics_differ_between_tasks_and_models(models, names, tmp_path):
    """What is compared above could be unequal."""
    both = [evaluate(models / kind, names, tmp_path / kind)["seqio_tasks"] for kind in ("decoder", "both")]
    assert both[0] != both[1]
    assert len({json.dumps(value, sort_keys=True) for value in both[0].values()}) == len(names)
    for task, metrics in both[0].items():
        for metric, value in metrics.items():
            # Of five examples of random text none is right to the letter.
            assert value or both[1][task][metric] or (task, metric) in (("ev_answers", "em"), ("ev_mixed", "accuracy"))


@pytest.mark.slow
def test_beams_are_those_of_seqio(models, names, tmp_path):
    found = evaluate(models / "decoder", ["ev_answers"], tmp_path, "--num_beams=2")
    metrics, outputs, _ = reference(models / "decoder", "ev_answers", num_beams=2)
    assert found["seqio_tasks"]["ev_answers"] == metrics
    rows = [json.loads(line) for line in (tmp_path / "ev_answers.predictions.jsonl").read_text().splitlines()]
    decoded = [evaluated.VOCABULARY.decode(row) for row in outputs[seqio.metrics.ModelOutputType.PREDICTION]]
    assert [row["output"] for row in rows] == decoded

"""Runs that go on under another config: in the data where they were, recorded, and bit for bit after a kill."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest

from tests.training import tiny
from triarch.cli.main import main
from triarch.data.mixture import MixturePhase, StoreMixture
from triarch.data.source_order import SourceOrder
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.objectives import CausalLM, PrefixLM
from triarch.training import CheckpointConfig, DataConfig, loop, train
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.adafactor import Adafactor
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant, Cosine, Rsqrt, Trapezoid
from triarch.training.phases.course import open_course
from triarch.training.record.changing import all_segments, in_order
from triarch.training.record.config_classes import to_plain
from triarch.training.record.config_json import from_plain, read_config
from triarch.training.record.segments import describe_schedule


def constant(config, **changes):
    return dataclasses.replace(config, **{"optimizer": AdamW(Constant(3e-3, warmup_steps=2))} | changes)


def segments_of(workdir):
    config = read_config(workdir)
    return all_segments(in_order(workdir, open_course(config), None).inputs)


def examples(workdir, steps):
    """Returns (store, index, epoch) of every row that a run reads, in order."""
    segments = segments_of(workdir)
    starts = [segment.order.step for segment in segments] + [steps]
    return [
        example
        for segment, (start, end) in zip(segments, itertools.pairwise(starts), strict=True)
        for step in range(start, end)
        for example in segment.training().example_ids(step)
    ]


@pytest.fixture(scope="module")
def begun(config, tmp_path_factory):
    """A complete run of 6 steps at a constant rate."""
    workdir = tmp_path_factory.mktemp("begun") / "run"
    train(constant(config, steps=6), workdir, "")
    return workdir


@pytest.fixture
def run(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "run")


def test_more_steps_at_a_constant_rate_are_the_longer_run(config, run, tmp_path, capsys):
    longer = constant(config, steps=10)
    train(longer, tmp_path / "whole", "")
    summary = train(longer, run, "", may_change=True)
    assert tiny.losses(run) == tiny.losses(tmp_path / "whole")
    said = capsys.readouterr().err
    assert "step 6 begins a segment under another config: steps: 6 -> 10\n" in said
    assert "learning rate: Constant continues exactly as if the run had begun with 10 steps\n" in said
    assert summary["segments"] == [
        {"from_step": 0, "changed": []},
        {"from_step": 6, "changed": ["steps: 6 -> 10"]},
    ]
    assert read_config(run) == longer
    assert (run / "config.gin").read_text() == "# from step 0 on: as begun\n# from step 6 on: steps: 6 -> 10\n"


def test_another_batch_size_reads_each_example_once(config, run):
    changed = constant(config, steps=10, batch_size=12, microbatches=3)
    summary = train(changed, run, "", may_change=True)
    ids = examples(run, 10)
    assert len(ids) == 6 * 8 + 4 * 12
    assert ids == segments_of(run)[0].training().example_ids(0) + ids[8:]
    first_epoch = [index for _, index, epoch in ids if epoch == 0]
    assert sorted(first_epoch) == list(range(64))
    assert len({example for example in ids}) == len(ids)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["tokens"] for line in lines] == [
        tiny.WINDOW * count for count in (*range(8, 49, 8), *range(60, 97, 12))
    ]
    flops = config.model.flops(0, tiny.WINDOW, "paper")
    assert lines[-1]["flops_paper"] == summary["flops_paper"] == pytest.approx(flops * 96)


@pytest.mark.slow
def test_it_goes_on_with_a_restored_state_not_from_the_beginning(config, run, monkeypatch):
    """Interrupted within the second segment and started again with the workdir alone, it is the same run."""
    changed = constant(config, steps=12, batch_size=16, optimizer=AdamW(Cosine(1e-3), max_grad_norm=None))
    copy = shutil.copytree(run, run.with_name("copy"))
    train(changed, run, "", may_change=True)
    save = loop._save

    def killed(kept, state, run, step):
        save(kept, state, run, step)
        kept.checkpoints.wait()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(changed, copy, "", may_change=True)
    assert max(tiny.losses(copy)) == 8
    assert main(["train", f"--workdir={copy}"]) == 0
    assert tiny.losses(copy) == tiny.losses(run)
    # The same command once more, as a script that restarts would: nothing changes.
    assert (
        train(changed, copy, "", may_change=True)["segments"]
        == json.loads((run / "summary.json").read_text())["segments"]
    )


@pytest.mark.slow
def test_damaged_checkpoints_of_the_second_segment_lead_through_the_first_again(config, run):
    kept = dataclasses.replace(config, checkpoint=CheckpointConfig(every=4, keep_last=9))
    changed = constant(kept, steps=9, batch_size=16)
    train(changed, run, "", may_change=True)
    losses = tiny.losses(run)
    for step in (6, 8, 9):
        (run / "checkpoints" / str(step) / "params" / "triarch_files.json").unlink()
    assert sorted(p.name for p in (run / "checkpoints").iterdir() if p.name.isdigit())[0] == "4"
    train(changed, run, "")
    assert tiny.losses(run) == losses


def test_stores_join_and_each_goes_on_where_it_is(config, store, run, tmp_path):
    other = str(tiny.write_store(tmp_path / "other", 40))
    mixture = StoreMixture((other, str(store)), (MixturePhase(weights=(3, 1)),))
    second = constant(config, steps=12, data=DataConfig(tiny.WINDOW, mixture))
    train(second, run, "", may_change=True)
    third = constant(config, steps=14, batch_size=4)
    train(third, run, "", may_change=True)
    ids = examples(run, 14)
    counts = [sum(number == source for number, _, _ in ids[48:96]) for source in (0, 1)]
    assert counts == [12, 36]
    for source, size in ((0, 64), (1, 40)):
        own = [(index, epoch) for number, index, epoch in ids if number == source]
        assert len(set(own)) == len(own)
        assert sorted(index for index, epoch in own if epoch == 0) == list(range(size))[: len(own)] or len(own) < size
    assert [number for number, _, _ in ids[96:]] == [0] * 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": tiny.model("decoder-only", d_ff=64)}, r"cannot change this on its way: model.d_ff: 32 -> 64; begin"),
        ({"seed": 4}, r"seed: 0 -> 4"),
        ({"objective": PrefixLM()}, r"objective: CausalLM -> PrefixLM"),
        ({"optimizer": Adafactor(Constant(1e-3))}, r"optimizer: AdamW -> Adafactor"),
        ({"steps": 6, "batch_size": 4}, r"the run is at step 6, and RunConfig.steps = 6 ends there: name more steps"),
    ],
)
def test_what_a_run_cannot_change_is_refused(config, run, changes, message):
    before = (run / "config.json").read_text()
    with pytest.raises(UserError, match=message) as error:
        train(constant(config, **{"steps": 9} | changes), run, "", may_change=True)
    assert "\n" not in str(error.value)
    assert (run / "config.json").read_text() == before


def test_a_state_of_another_shape_is_refused(config, tmp_path):
    small = Adafactor(Constant(1e-3), factored=True, min_dim_to_factor=8)
    train(dataclasses.replace(config, optimizer=small, steps=2), tmp_path, "")
    whole = dataclasses.replace(small, factored=False)
    with pytest.raises(UserError, match="Adafactor's state has another shape"):
        train(dataclasses.replace(config, optimizer=whole, steps=4), tmp_path, "", may_change=True)


@pytest.mark.parametrize(
    ("schedule", "steps", "said"),
    [
        (Constant(1e-3, 3), (6, 12), "continues exactly"),
        (Rsqrt(1.0, 4), (6, 12), "continues exactly"),
        (Trapezoid(1e-3, 2, decay_steps=3), (9, 12), "continues exactly"),
        (Trapezoid(1e-3, 2, decay_steps=5), (9, 12), "was stretched from 9 to 12 steps: 0.001 at step 6, where"),
        (Cosine(1e-3, 2), (6, 12), "Cosine was stretched from 6 to 12 steps: 0.0006891 at step 6, where the settings"),
    ],
)
def test_a_schedule_says_whether_it_goes_on_exactly(config, schedule, steps, said):
    before, after = (dataclasses.replace(config, optimizer=AdamW(schedule), steps=count) for count in steps)
    assert said in describe_schedule(before, after, 6)


def test_another_schedule_says_so(config):
    before, after = (dataclasses.replace(config, optimizer=AdamW(Constant(rate))) for rate in (1e-3, 1e-4))
    line = describe_schedule(before, after, 6)
    assert "Constant holds from here on: 0.0001 at step 6, where the settings before gave 0.001" in line


def test_the_command_names_each_change(config, run, capsys):
    arguments = ["train", f"--workdir={run}", "--continue_with=RunConfig.steps=8"]
    assert main(["train", f"--workdir={run}", "--gin.RunConfig.steps=8"]) == 1
    assert "train on under them with --continue_with" in capsys.readouterr().err
    assert main([*arguments, "--continue_with=Constant.peak=1e-3"]) == 0
    assert sorted(tiny.losses(run)) == list(range(1, 9))
    assert read_config(run).optimizer.learning_rate.peak == 1e-3
    assert main(["train", f"--workdir={run}", "--gin.RunConfig.log_every=3"]) == 0
    assert read_config(run).log_every == 3
    for wrong, message in (
        (["--continue_with=steps"], "expected NAME=VALUE or a gin file"),
        (["--continue_with=RunConfig.steps=9", "--gin_file=runs/redllm.gin"], "name gin files with it"),
    ):
        assert main(["train", f"--workdir={run}", *wrong]) == 1
        assert message in capsys.readouterr().err
    assert main(["train", f"--workdir={run.parent / 'none'}"]) == 1
    assert "holds no run to resume" in capsys.readouterr().err


def test_a_config_is_read_as_it_was_written(config):
    mixture = StoreMixture(("a", "b"), (MixturePhase(weights=(1, 2.5)), MixturePhase(3, None, 2.0)))
    config = dataclasses.replace(config, data=DataConfig(tiny.WINDOW, mixture))
    plain = json.loads(json.dumps(to_plain(config)))
    assert from_plain(plain | {"vocabulary": {}}, "config.json") == config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("optimizer", "class"), "subprocess.Popen", r"RunConfig.optimizer: no config class 'subprocess.Popen'"),
        (("optimizer", "class"), "Cosine", r"RunConfig.optimizer: Cosine does not go there"),
        (("optimizer", "beta3"), 0.1, r"AdamW has no field 'beta3' \(did you mean 'beta"),
        (("steps",), "12", r"RunConfig.steps: '12' is no value of that field"),
        (("steps",), True, r"RunConfig.steps: 'True' is no value"),
        (("model",), None, r"RunConfig.model: 'None' is no value"),
    ],
)
def test_a_damaged_config_is_one_line(config, path, value, message):
    plain = json.loads(json.dumps(to_plain(config)))
    inner = plain
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(UserError, match=f"config.json: {message}"):
        from_plain(plain, "config.json")


def test_an_order_goes_on_unchanged_as_one_phase():
    """More steps of a mixture that stays are dealt out as if the run had been that long."""
    phases = [(0, (3, 1, 2)), (10, (1, 1, 5))]
    order = SourceOrder.begin("abc", phases, 4)
    later = order.then(7, 4, "abc", [(7, (3, 1, 2)), (10, (1, 1, 5))], 4)
    assert later.phases == order.phases and (later.step, later.position) == (7, 28)
    assert SourceOrder.from_plain(json.loads(json.dumps(later.to_plain())), "here") == later
    wider = order.then(12, 4, "ad", [(12, (1, 1))], 8)
    assert wider.sources == ("a", "b", "c", "d") and wider.phases[-1] == (48, (1, 0, 0, 1))
    before, after = order.interleaving(), wider.interleaving()
    assert [before.locate(p) for p in range(48)] == [after.locate(p) for p in range(48)]
    assert after.locate(48)[1] == before.counts(48)[after.locate(48)[0]] if after.locate(48)[0] < 3 else True


@pytest.mark.parametrize(
    "damage",
    [
        {"phases": []},
        {"phases": [[1, [1]]]},
        {"phases": [[0, [0]]]},
        {"phases": [[0, [1, 1]]]},
        {"position": -1},
        {"step": None},
        {"phases": [[0, [float("inf")]]]},
    ],
)
def test_a_damaged_order_is_one_line(damage):
    plain = SourceOrder.begin("a", [(0, (1,))], 4).to_plain() | damage
    with pytest.raises(UserError, match="here: damaged"):
        SourceOrder.from_plain(plain, "here")


def test_batches_of_a_segment_are_those_of_the_stream(store):
    config = tiny.run_config(store)
    inputs = open_inputs(config)
    whole = inputs.training()
    order = inputs.order.then(3, 8, inputs.source_names, [(3, (2**40,))], 4)
    later = dataclasses.replace(inputs, config=dataclasses.replace(config, batch_size=4), order=order).training()
    for half, step in ((0, 3), (1, 4), (0, 5)):
        rows = slice(4 * half, 4 * half + 4)
        expected = whole.batch(3 + (step - 3) // 2)["decoder_target_tokens"][rows]
        np.testing.assert_array_equal(later.batch(step)["decoder_target_tokens"], expected)
    with pytest.raises(ValueError, match="begin with step 3"):
        later.batch(2)
    assert TokenStore.open(store).manifest.fingerprint in inputs.source_names[0]
    assert CausalLM() == config.objective

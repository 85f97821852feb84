"""Runs in phases: what each changes, that it goes on from the one before, and that the whole is resumed bit for bit."""

from __future__ import annotations

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from tests.models.reference import Reference
from tests.training import tiny
from triarch.data.mixture import MixturePhase, StoreMixture
from triarch.errors import UserError
from triarch.loading import load
from triarch.models.network import flatten
from triarch.objectives import CausalLM, MaskedLM
from triarch.training import CheckpointConfig, DataConfig, loop, train
from triarch.training.config import validate
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant, OneMinusSqrt, PhaseSchedule
from triarch.training.phases.course import open_course
from triarch.training.phases.phase import BatchWarmup, Level, Phase
from triarch.training.phases.stages import of_phase, stages
from triarch.training.record.changing import all_segments
from triarch.training.record.config_json import read_config

LONG = 32


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Stores of windows of 16 and of 32 tokens."""
    folder = tmp_path_factory.mktemp("stores")
    return tiny.write_store(folder / "short"), tiny.write_store(folder / "long", 48, seed=1, window=LONG)


def chain(stores, cache=None, **changes):
    """An encoder in three phases: short windows with growing batches, long ones with other angles, a decay."""
    short, long = map(str, stores)
    base = tiny.run_config(short, "encoder-only", checkpoint=CheckpointConfig(every=3, keep_last=99))
    model = dataclasses.replace(base.model, sliding_window=4, global_every=2, num_encoder_layers=2)
    wide = dataclasses.replace(model, rope_base=16.0, local_rope_base=10_000.0, sliding_window=6)
    phases = (
        Phase("pretraining", tokens=8 * 8 * 16, batch_warmup=BatchWarmup(4, tokens=4 * 4 * 16)),
        Phase(
            "extension",
            steps=4,
            model=wide,
            data=DataConfig(LONG, long),
            batch_size=4,
            optimizer=AdamW(OneMinusSqrt(2e-3, final_fraction=0.5)),
        ),
        Phase(
            "decay",
            steps=3,
            model=dataclasses.replace(wide, local_rope_base=16.0),
            data=DataConfig(LONG, StoreMixture((long,))),
            objective=MaskedLM(rate=0.15),
            batch_size=4,
            optimizer=AdamW(OneMinusSqrt(1e-3)),
            keep_optimizer=False,
        ),
    )
    optimizer = AdamW(Constant(3e-3, warmup_steps=2))
    config = dataclasses.replace(base, model=model, optimizer=optimizer, phases=phases, compilation_cache=cache)
    return dataclasses.replace(config, **changes)


@pytest.fixture(scope="module")
def config(stores, cache):
    return chain(stores, cache)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train(config, workdir, "")
    return workdir


def parameters(workdir, step=None):
    return jax.tree.map(np.asarray, load(workdir, step=step).params)


def lines(workdir):
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "tokens_per_second", "mfu")
    return [{key: value for key, value in line.items() if key not in timed} for line in found]


def test_a_phase_counts_tokens_and_its_batches_grow(config):
    found = stages(config)
    assert [(one.phase, one.config.batch_size, one.end - one.first_step) for one in found] == [
        ("pretraining", 4, 4),
        ("pretraining", 8, 6),
        ("extension", 4, 4),
        ("decay", 4, 3),
    ]
    assert config.steps == found[-1].end == 17
    assert [one.fresh_optimizer for one in found] == [False] * 3 + [True]
    # Tokens at a size are proportional to it: as many updates each (arXiv 2507.11412).
    ettin = Phase("a", tokens=1_700_000_000_000, batch_warmup=BatchWarmup(72, tokens=50_000_000_000))
    levels = ettin.levels(4608, 1024)
    assert len(levels) == 64 and {level.steps for level in levels[:-1]} == {336}
    assert levels[-1] == Level(4608, 349_693)
    assert sum(size * steps for size, steps in levels) * 1024 == pytest.approx(1.7e12, rel=1e-5)


def test_the_schedule_of_a_phase_counts_its_own_tokens(config):
    """While batches grow, a warm-up of two full batches takes as many tokens, not steps."""
    rates = {}
    for stage in stages(config):
        for step in range(stage.first_step, stage.end):
            rates[step] = float(stage.config.optimizer.learning_rate(step, stage.config.steps))
    done = [0, 4, 8, 12, 16]
    expected = [3e-3 * min(sequences / 16, 1) for sequences in done] + [3e-3] * 5
    expected += [2e-3 * (0.5 + 0.5 * (1 - np.sqrt(t / 4))) for t in range(4)]
    expected += [1e-3 * (1 - np.sqrt(t / 3)) for t in range(3)]
    np.testing.assert_allclose([rates[step] for step in range(17)], expected, rtol=1e-6)
    schedule = PhaseSchedule(Constant(1.0, 4), first_step=10, steps=8, begun=1.5, pace=0.5)
    assert [float(schedule(step, 99)) for step in (10, 11, 15)] == [0.375, 0.5, 1.0]


@pytest.mark.slow
def test_one_folder_tells_all_of_it(config, whole):
    logged = lines(whole)
    assert [line["phase"] for line in logged] == ["pretraining"] * 10 + ["extension"] * 4 + ["decay"] * 3
    assert [line["batch_size"] for line in logged] == [4] * 4 + [8] * 6 + [4] * 7
    tokens = np.cumsum([line["batch_size"] * (16 if line["phase"] == "pretraining" else LONG) for line in logged])
    assert [line["tokens"] for line in logged] == tokens.tolist()
    assert read_config(whole) == config
    summary = json.loads((whole / "summary.json").read_text())
    assert [(one["phase"], one["from_step"]) for one in summary["segments"]] == [
        ("pretraining", 0),
        ("extension", 10),
        ("decay", 14),
    ]
    changed = summary["segments"][1]["changed"]
    assert "model.rope_base: 10000.0 -> 16.0" in changed and "data.window: 16 -> 32" in changed
    assert not [line for line in changed if "pace" in line or line.startswith("steps")]
    assert json.loads((whole / "config.json").read_text())["phase_starts"] == {
        "pretraining": 0,
        "extension": 10,
        "decay": 14,
    }


def test_a_checkpoint_is_of_its_phase(config, whole):
    for step, rate, base, window in (
        (9, 0.3, 10_000, 16),
        (10, 0.3, 10_000, 16),
        (12, 0.3, 16, 32),
        (17, 0.15, 16, 32),
    ):
        model = load(whole, step=step)
        assert model.config.rope_base == base and model.origin.source["window"] == window
        assert model.origin.objective["rate"] == rate
    assert load(whole).config.local_rope_base == 16 and load(whole, step=14).config.local_rope_base == 10_000


def _path(name):
    return tuple(int(part) if part.isdigit() else part for part in name.split("/"))


def reference_loss(model, parameters, batch):
    """Returns the mean loss of a batch by float64 numpy, document by document."""
    reference = Reference(model, {_path(name): value for name, value in flatten(parameters).items()})
    total = weight = 0.0
    for tokens, targets, weights in zip(
        *(batch[f"encoder_{name}"] for name in ("input_tokens", "target_tokens", "loss_weights")), strict=True
    ):
        logits = reference.logits(None, tokens)
        normal = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
        total += ((normal - logits[np.arange(len(tokens)), targets]) * weights).sum()
        weight += weights.sum()
    return total / weight


@pytest.mark.parametrize("step", [9, 10, 14])
def test_the_rotary_base_and_the_window_of_each_phase_are_trained_with(config, whole, step):
    """The loss before an update is that of a float64 network with the phase's numbers, and of no other phase's."""
    segments = {one.order.step: one for one in all_segments(open_course(config).inputs)}
    inputs = segments[max(first for first in segments if first <= step)]
    batch = inputs.training().batch(step)
    params = parameters(whole, step)
    logged = {line["step"]: line["loss"] for line in lines(whole)}[step + 1]
    losses = [reference_loss(one.model or config.model, params, batch) for one in config.phases]
    own = [one.name for one in config.phases].index(inputs.phase)
    assert logged == pytest.approx(losses[own], abs=1e-5)
    assert all(abs(logged - loss) > 1e-4 for number, loss in enumerate(losses) if number != own)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [3, 10, 14])
def test_interrupted_in_any_phase_it_is_the_same_run(config, whole, tmp_path, moment):
    """Whatever step it goes on from: within a growing batch, at the end of a phase, where the optimizer begins anew."""
    copy = shutil.copytree(whole, tmp_path / "run")
    for step in [int(path.name) for path in (copy / "checkpoints").iterdir() if path.name.isdigit()]:
        if step > moment:
            shutil.rmtree(copy / "checkpoints" / str(step))
    train(config, copy, "")
    assert lines(copy) == lines(whole)
    for one, other in zip(jax.tree.leaves(parameters(copy)), jax.tree.leaves(parameters(whole)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_each_store_is_read_on(config, whole):
    segments = all_segments(open_course(config).inputs)
    assert [(one.phase, one.order.step, one.order.position) for one in segments] == [
        ("pretraining", 0, 0),
        ("pretraining", 4, 16),
        ("extension", 10, 64),
        ("decay", 14, 80),
    ]
    read = [
        example
        for one, end in zip(segments[2:], (14, 17), strict=True)
        for step in range(one.order.step, end)
        for example in one.training().example_ids(step)
    ]
    assert {example.source for example in read} == {1} and len(set(read)) == len(read) == 28


@pytest.mark.slow
def test_a_fresh_optimizer_is_as_at_the_beginning(config, whole, tmp_path):
    """With the optimizer's state kept the last phase is another run; without, that of a run begun from parameters."""
    last = config.phases[2]
    kept = dataclasses.replace(config, phases=(*config.phases[:2], dataclasses.replace(last, keep_optimizer=True)))
    train(kept, tmp_path / "kept", "")
    assert tiny.losses(tmp_path / "kept")[15] == tiny.losses(whole)[15]
    assert tiny.losses(tmp_path / "kept")[17] != tiny.losses(whole)[17]
    own = dataclasses.replace(of_phase(config, "decay"), init_from=str(whole), init_step=14)
    train(own, tmp_path / "own", "")
    # It reads the data from its beginning, so the rate alone can be compared.
    logged = [json.loads(line) for line in (tmp_path / "own" / "metrics.jsonl").read_text().splitlines()]
    assert [line["learning_rate"] for line in logged] == [line["learning_rate"] for line in lines(whole)[14:]]


@pytest.mark.slow
def test_a_phase_is_added_when_the_run_is_complete(config, whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    more = dataclasses.replace(config.phases[1], name="more", steps=2)
    longer = dataclasses.replace(config, phases=(*config.phases, more))
    with pytest.raises(
        UserError, match=r"another config \(phases.more: '\(absent\)' -> Phase; steps: 17 -> 19; phase_names"
    ):
        train(longer, run, "")
    train(longer, run, "", may_change=True)
    assert [line["phase"] for line in lines(run)[16:]] == ["decay", "more", "more"]
    assert lines(run)[:17] == lines(whole)
    train(longer, tmp_path / "all", "")
    assert lines(tmp_path / "all") == lines(run)
    assert load(run).config.local_rope_base == 10_000 and load(run, step=17).config.local_rope_base == 16
    assert load(run, step=9).config.rope_base == 10_000


@pytest.mark.parametrize(
    ("number", "changes", "message"),
    [
        (0, {"batch_warmup": BatchWarmup(4, tokens=2048)}, r"Phase.tokens = 1,024: its batches grow for 2,048 tokens"),
        (0, {"batch_warmup": BatchWarmup(2, tokens=16)}, r"BatchWarmup.tokens = 16: expected at least 192, a st"),
        (0, {"batch_warmup": BatchWarmup(8, tokens=999)}, r"BatchWarmup.start = 8: expected less than the phase's"),
        (0, {"tokens": 0}, r"Phase.tokens = 0: expected a whole number from 1 on or None \(of phase"),
        (0, {"tokens": 10, "batch_warmup": None}, r"Phase.tokens = 10: a step reads 128: expected more"),
        (0, {"steps": 3}, r"Phase: expected one of tokens \(1024\) and steps \(3\)"),
        (1, {"tokens": None, "steps": None}, r"Phase: expected one of tokens \(None\) and steps \(None\)"),
        (1, {"optimizer": AdamW(Constant(1e-3, 5))}, r"warmup_steps = 5: expected 0 to the run's 4 .*phase 'ext"),
        (1, {"name": "decay"}, r"Phase.name = 'decay': is there twice"),
        (1, {"name": "2 b"}, r"Phase.name = '2 b': expected letters, digits"),
        (1, {"objective": CausalLM()}, r"objective causal_lm trains .* not encoder-only .*\(of phase 'ext"),
    ],
)  # fmt: skip
def test_what_makes_no_phase_is_one_line(config, number, changes, message):
    phases = list(config.phases)
    phases[number] = dataclasses.replace(phases[number], **changes)
    with pytest.raises(UserError, match=message) as error:
        open_course_of(dataclasses.replace(config, phases=tuple(phases)))
    assert "\n" not in str(error.value)


def open_course_of(config):
    validate(config)
    open_course(config)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"num_encoder_layers": 0, "num_decoder_layers": 3}, r"Phase.model: decoder-only, the run is encoder-only"),
        ({"vocab_size": 64}, r"ModelConfig.vocab_size = 64: expected the run's, 32: phases have the same parameters"),
        ({"d_ff": 64}, r"ModelConfig.d_ff = 64: expected the run's, 32"),
        ({"sliding_window": None, "global_every": 1}, r"ModelConfig.sliding_window = None: expected the run's, 4"),
    ],
)
def test_another_network_is_no_phase(config, model, message):
    other = dataclasses.replace(config.model, **model)
    phase = dataclasses.replace(config.phases[1], model=other)
    with pytest.raises(UserError, match=message + r".*\(of phase 'extension'\)"):
        validate(dataclasses.replace(config, phases=(config.phases[0], phase), objective=config.objective))


def test_a_table_of_positions_must_hold_the_window(config):
    model = dataclasses.replace(config.model, position_encoding="learned", learned_positions=20)
    phases = tuple(dataclasses.replace(phase, model=None) for phase in config.phases)
    with pytest.raises(
        UserError, match=r"DataConfig.window = 32: a side reads 32 tokens, but .* makes it 20 places \(of ph"
    ):
        validate(dataclasses.replace(config, model=model, phases=phases))


def test_a_store_of_another_window_or_vocabulary_names_the_phase(config, stores, tmp_path):
    short, _ = map(str, stores)
    wrong = dataclasses.replace(config.phases[1], data=DataConfig(LONG, short))
    with pytest.raises(UserError, match=r"16 tokens long, but DataConfig.window is 32 \(of phase 'extension'\)"):
        open_course(dataclasses.replace(config, phases=(config.phases[0], wrong)))
    other = tiny.write_store(tmp_path / "other", window=LONG, vocabulary="other")
    wrong = dataclasses.replace(config.phases[1], data=DataConfig(LONG, str(other)))
    with pytest.raises(UserError, match=r"its vocabulary is not that of .*short, which the first phase reads"):
        open_course(dataclasses.replace(config, phases=(config.phases[0], wrong)))


def test_a_mixture_within_a_phase_counts_from_its_beginning(config, stores, tmp_path):
    _, long = map(str, stores)
    other = str(tiny.write_store(tmp_path / "other", window=LONG, seed=4))
    mixture = StoreMixture((long, other), (MixturePhase(weights=(1, 0)), MixturePhase(start=2, weights=(0, 1))))
    phase = dataclasses.replace(config.phases[1], data=DataConfig(LONG, mixture))
    course = open_course(dataclasses.replace(config, phases=(config.phases[0], phase)))
    batches = course.inputs.training()
    assert [batches.example_ids(step)[0].source for step in range(10, 14)] == [1, 1, 2, 2]


@pytest.mark.slow
def test_killed_by_a_signal_in_a_phase_it_goes_on_by_its_folder(config, whole, tmp_path, monkeypatch):
    save = loop._save

    def killed(kept, state, run, step):
        save(kept, state, run, step)
        if step >= 12:
            kept.checkpoints.wait()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path, "")
    train(read_config(tmp_path), tmp_path, "")
    assert lines(tmp_path) == lines(whole)

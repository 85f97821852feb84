"""What would fail after hours of training is said before the first step."""

from __future__ import annotations

import dataclasses

import pytest

from triarch.cli.main import main
from triarch.cli.studies import check_study, load_study
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.sweeps import identity, stages
from triarch.sweeps.runner import Failure, described
from triarch.sweeps.study import Corpus, Study
from triarch.training import train
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant
from triarch.training.record.fingerprint import checkpoint_id, run_fingerprint, write_folder

STUDY = "experiments/isoflop_laptop/study.gin"
BINDINGS = ["Study.families = ('decllm',)", "Study.labels = ('D',)", "Ladder.targets = (9e3, 16e3)",
            "IsoFlop.budgets = (1e11,)", "Study.exports = True"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Stores of bytes, of windows of 256 tokens unless their names say otherwise."""
    folder = tmp_path_factory.mktemp("stores")
    for index in range(30):
        (folder / f"text_{index}.txt").write_text(f"the text of number {index} " * 60)
    flags = {
        "good": ("--vocabulary=bytes", "--window=256", "--validation_fraction=0.3"),
        "short": ("--vocabulary=bytes", "--window=128", "--validation_fraction=0.3"),
        "no_validation": ("--vocabulary=bytes", "--window=256", "--validation_fraction=0"),
        "other": ("--vocabulary=bytes", "--add_sentinels=5", "--window=256", "--validation_fraction=0.3"),
        "several/one": ("--vocabulary=bytes", "--window=256", "--validation_fraction=1"),
        "several/two": ("--vocabulary=bytes", "--window=256", "--validation_fraction=0.5"),
        "held_out": ("--vocabulary=bytes", "--window=256", "--validation_fraction=0.3", "--hold_out=text_1?"),
    }
    for name, own in flags.items():
        files = f"--files={folder / 'text_*.txt'}"
        assert main(["prepare", "--task=files", files, f"--output={folder / name}", "--workers=1", *own]) == 0
    return folder


def study_of(folder, first="good", second="several", *more):
    stores = [f"code/Corpus.store = '{folder / first}'", f"prose/Corpus.store = '{folder / second}'"]
    return load_study([STUDY], [*BINDINGS, *stores, *more])


def test_a_study_that_can_be_run_has_no_problem(folder):
    study, runs = study_of(folder, "held_out", "several", "code/Corpus.splits = ('validation', 'test')")
    found = check_study(study, runs, None)
    assert found.problems == found.notes == ()
    domains = stages.domains(study, folder)
    assert [(one.corpus, one.name, one.split) for one in domains] == [
        ("stdlib_code", "stdlib_code", "validation"), ("stdlib_code_test", "stdlib_code_test", "test"),
        ("stdlib_prose", "one", "validation"), ("stdlib_prose", "two", "validation"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stores", "more", "words"),
    [
        (("no_validation",), (), "stdlib_code: .*no split 'validation'"),
        (("good", "no_validation"), (), "stdlib_prose: .*no split 'validation'"),
        (("several",), (), "stdlib_code: .*several: is a folder of stores, and a study trains on one store"),
        (
            ("good", "other"),
            (),
            "stdlib_prose: .*other has another vocabulary .*prepare it again with --vocabulary_from=",
        ),
        (("other",), ("Study.vocabulary = 'bytes'",), "has another vocabulary"),
        (("short",), (), "decllm_9k_c1e11 and 1 more: .*windows are 128 tokens long"),
        (("good", "godo"), (), r"no such token store \(did you mean 'good'"),
        (("good",), ("code/Corpus.splits = ('validation', 'test')",), "no split 'test'"),
    ],
)
def test_what_cannot_be_is_said_and_refused(stores, more, words, folder, tmp_path, capsys):
    study, runs = study_of(folder, *stores, *([] if len(stores) == 2 else ["several"]), *more)
    with pytest.raises(UserError, match=words):
        check_study(study, runs, tmp_path).refuse()


def test_models_of_several_vocabularies_are_refused_and_padded_ones_noted(folder):
    study, runs = study_of(folder)
    wide = [
        dataclasses.replace(
            run, config=dataclasses.replace(run.config, model=dataclasses.replace(run.config.model, vocab_size=512))
        )
        for run in runs
    ]
    assert check_study(study, wide, None).problems == ()
    assert "the models have 512 ids, the text's vocabulary 260" in check_study(study, wide, None).notes[0]
    (problem,) = check_study(study, (runs[0], wide[1]), None).problems
    assert "260 of decllm_9k_c1e11, 512 of decllm_16k_c1e11" in problem


def test_describe_says_what_stands_in_the_way(folder, capsys):
    flags = [f"--gin.{binding.replace(' = ', '=', 1)}" for binding in BINDINGS]
    stores = [f"--gin.code/Corpus.store='{folder / 'short'}'", "--gin.prose/Corpus.store='nowhere/yet'"]
    assert main(["describe", f"--gin_file={STUDY}", *flags, *stores]) == 0
    shown = capsys.readouterr().out
    assert "note: stdlib_prose: no store nowhere/yet here yet" in shown
    assert "PROBLEM: decllm_9k_c1e11 and 1 more: " in shown


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        (Corpus(), "Corpus.store, Corpus.files or Corpus.task"),
        (Corpus("code", files=("x",)), "not beside Corpus.task"),
        (Corpus(store="x", hold_out=("y",)), "prepared already"),
        (Corpus("a/b"), "Corpus.name = 'a/b'"),
        (Corpus("code", "in"), "Corpus.role = 'in'"),
        (Corpus("code", splits=()), "Corpus.splits"),
        (Corpus("code", validation_fraction=2), "Corpus.validation_fraction"),
    ],
)
def test_corpora_that_cannot_be(corpus, words):
    with pytest.raises(UserError, match=words):
        corpus.validate()


def test_corpora_are_called_by_name_and_no_two_alike():
    assert Corpus(files=("books/old novels.txt",)).title == "old_novels"
    assert Corpus(store="stores/web").texts == (("web", "validation"),)
    assert Corpus("code", hold_out=("x",)).texts == (("code", "validation"), ("code_test", "test"))
    study = Study("t", "q", ("a",), ("A",), ("s",), "f", (Corpus("code"), Corpus(store="old/code")))
    with pytest.raises(UserError, match="two texts are called 'code'"):
        study.validate()


def test_sizes_with_shapes_steps_batch_and_rates_of_their_own(tmp_path):
    (tmp_path / "decllm").mkdir()
    (tmp_path / "decllm" / "mine.gin").write_text("include 'models/decllm/tiny_s.gin'\nModelConfig.d_ff = 80\n")
    (tmp_path / "study.gin").write_text(f"""
include '{STUDY}'
Study.families = ('decllm', 'redllm')
Study.labels = ('D', 'R')
Study.sizes = ('tiny_s', @wide/Size())
Study.budget = None
Study.learning_rates = (1e-2, 3e-2)
Study.batch_sizes = (4, 8)
Study.warmup_fraction = 0.5
wide/Size.name = 'wide'
wide/Size.like = 'tiny_s'
wide/Size.d_model = 64
wide/Size.num_layers = 3
wide/Size.steps = 20
wide/Size.batch_size = 2
wide/Size.learning_rates = (5e-3,)
""")
    _, runs = load_study([str(tmp_path / "study.gin")], [])
    assert [run.name for run in runs if run.size == "wide"] == ["decllm_wide_lr0.005", "redllm_wide_lr0.005"]
    assert len([run for run in runs if run.size == "tiny_s"]) == 8
    decllm, redllm = (run.config for run in runs if run.size == "wide")
    assert (decllm.model.num_encoder_layers, decllm.model.num_decoder_layers, decllm.model.d_model) == (0, 3, 64)
    assert (redllm.model.num_encoder_layers, redllm.model.num_decoder_layers) == (3, 3)
    assert (decllm.steps, decllm.batch_size) == (20, 2)
    assert (decllm.optimizer.learning_rate.peak, decllm.optimizer.learning_rate.warmup_steps) == (5e-3, 10)
    with pytest.raises(UserError, match=r"Size\.steps = 20 of size 'wide': Study.budget says already"):
        load_study([str(tmp_path / "study.gin")], ["Study.budget = @IsoFlop()"])
    with pytest.raises(UserError, match=r"Size\.d_model = 0"):
        load_study([str(tmp_path / "study.gin")], ["wide/Size.d_model = 0"])
    beside = ["Study.sizes = ('mine',)", "Study.families = ('decllm',)", "Study.labels = ('D',)"]
    _, runs = load_study([str(tmp_path / "study.gin")], beside)
    assert {run.config.model.d_ff for run in runs} == {80}


def log(workdir):
    """Makes a run one that was begun."""
    (workdir / "metrics.jsonl").write_text('{"step": 1}\n')


def test_runs_that_never_made_a_step_bind_no_study(folder, tmp_path):
    """One that ran out of memory is there, with its config: a smaller batch takes its folder."""
    stores = [TokenStore.open(folder / "good")]
    _, runs = study_of(folder)
    for run in runs:
        write_folder(tmp_path / run.name, run.config, "", stores)
    smaller = [dataclasses.replace(run, config=dataclasses.replace(run.config, batch_size=1)) for run in runs]
    renamed = [dataclasses.replace(run, name=f"{run.name}_again") for run in runs]
    for changed in (smaller, renamed):
        assert [run.owner for run in identity.settled(changed, tmp_path, stores)] == [run.name for run in changed]
    log(tmp_path / runs[0].name)
    with pytest.raises(UserError, match=r"batch_size: \d+ -> 1\)"):
        identity.settled(smaller, tmp_path, stores)


def test_runs_are_known_by_what_they_compute(folder, tmp_path):
    """A design that calls a run otherwise finds it; a folder of the name that holds another run is not taken for it."""
    stores = [TokenStore.open(folder / "good")]
    _, runs = study_of(folder)
    for run in runs:
        write_folder(tmp_path / run.name, run.config, "", stores)
    # What never trained binds nobody.
    unbegun = [dataclasses.replace(run, config=dataclasses.replace(run.config, steps=7)) for run in runs]
    assert [run.owner for run in identity.settled(unbegun, tmp_path, stores)] == [run.name for run in runs]
    for run in runs:
        log(tmp_path / run.name)
    peak = runs[0].learning_rate
    _, crossed = study_of(folder, "good", "several", f"Study.learning_rates = ({peak}, 1e-3)", "Study.seeds = (0, 5)")
    settled = identity.settled(crossed, tmp_path, stores)
    assert [run.owner for run in settled if run.config.seed == 0 and run.learning_rate == peak] == [
        r.name for r in runs
    ]
    assert len({run.owner for run in settled}) == len(settled) == 8
    assert all(run.owner == run.name for run in settled if run.config.seed == 5)
    assert [run.folder for run in identity.settled(runs, tmp_path, stores)] == [run.name for run in runs]
    longer = [dataclasses.replace(run, config=dataclasses.replace(run.config, steps=7)) for run in runs]
    with pytest.raises(UserError, match=r"holds a run under another config \(steps: \d+ -> 7\), and another likewise"):
        identity.settled(longer, tmp_path, stores)
    (first, _) = identity.settled(longer, tmp_path, stores, train_changed=True)
    assert first.owner == f"{runs[0].name}_{run_fingerprint(longer[0].config, stores)[:8]}"
    # The same config on other text is another run.
    with pytest.raises(UserError, match="its text is another"):
        identity.settled(runs, tmp_path, [TokenStore.open(folder / "held_out")])
    # What failed before its first step binds nobody.
    for run in runs:
        (tmp_path / run.name / "metrics.jsonl").unlink()
    assert [run.owner for run in identity.settled(longer, tmp_path, stores)] == [run.name for run in runs]


def test_an_evaluation_is_done_for_what_it_was_made_with_only(folder, tmp_path, monkeypatch):
    import json

    from triarch.evaluation import made_with, scoring

    study, runs = study_of(folder)
    record = lambda study, name="x": made_with(  # noqa: E731
        checkpoint_id(name, 3), stages.domains(study, tmp_path), stages.evaluation_options(study)
    )
    train, evaluate, _ = stages.run_stages(study, runs[0], tmp_path, record(study))
    evaluate.result.parent.mkdir(parents=True)
    evaluate.result.write_text(json.dumps({"made_with": record(study)}))
    assert evaluate.done and not train.done

    def done(changed, made=None) -> bool:
        return stages.run_stages(changed, runs[0], tmp_path, made or record(changed))[1].done

    assert done(study)
    assert not done(dataclasses.replace(study, max_windows=3))
    assert not done(dataclasses.replace(study, pseudo_positions=3))
    assert not done(study, record(study, "y"))
    first, second = study.corpora
    for corpora in (
        (first,),
        (first, second, Corpus(store=str(folder / "held_out"))),
        (first, dataclasses.replace(second, store=str(folder / "several" / "two"))),
        (first, dataclasses.replace(second, name="another")),
        (dataclasses.replace(first, store=str(folder / "held_out")), second),
    ):
        assert not done(dataclasses.replace(study, corpora=corpora))
    monkeypatch.setitem(scoring.MEASURES, "paired", 99)
    assert not done(study)
    # What an older version wrote does not say what it was made with.
    evaluate.result.write_text(json.dumps({"evaluations": []}))
    assert not evaluate.done


@pytest.mark.slow
def test_an_export_is_done_for_its_runs_checkpoint_only(folder, tmp_path):
    """A run that was trained anew otherwise is exported anew."""
    study, runs = study_of(folder, "good", "several", "Study.exports = True")
    stores = [TokenStore.open(folder / "good")]

    def exported(config) -> bool:
        record = {"checkpoint": checkpoint_id(run_fingerprint(config, stores), config.steps)}
        return stages.run_stages(study, runs[0], tmp_path, record)[2].done

    changes = dict(steps=1, eval_every=None, tensorboard=False, optimizer=AdamW(Constant(1e-3, warmup_steps=0)))
    data = dataclasses.replace(runs[0].config.data, store=str(folder / "good"))
    config = dataclasses.replace(runs[0].config, data=data, **changes)
    workdir = stages.run_folder(runs[0], tmp_path)
    train(config, workdir, "")
    output = stages.export_folder(runs[0], tmp_path)
    assert not exported(config)
    assert main(["export", f"--workdir={workdir}", "--format=orbax", f"--output={output}"]) == 0
    assert exported(config)
    assert not exported(dataclasses.replace(config, seed=5))
    assert not exported(dataclasses.replace(config, steps=2))
    assert stages.run_stages(study, runs[0], tmp_path)[2].done


def test_failures_of_one_reason_are_one_line(tmp_path):
    failures = {
        f"run_{i}": Failure("evaluate", f"runs/run_{i}: no split 'validation'", tmp_path / "log") for i in range(9)
    }
    failures["run_9"] = Failure("train", "out of memory", tmp_path / "log")
    lines = described(failures)
    assert len(lines) == 2
    assert lines[0].startswith("run_0 and 8 more evaluate: runs/run_0: no split 'validation' (see ")

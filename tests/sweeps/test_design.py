"""Designs: the runs that budgets, ladders and grids come to, against papers' numbers and against gin itself."""

import dataclasses
import subprocess
import sys

import pytest

from triarch.cli.main import main
from triarch.cli.studies import load_study, run_config
from triarch.errors import UserError
from triarch.sweeps.budgets import FixedTokens, IsoFlop, SequenceCost, TokensPerParameter

STUDY = "experiments/isoflop_laptop/study.gin"
PAPER = "experiments/redllm_vs_decllm/paper.gin"
# Training FLOPs as figure 2 (left) of arXiv 2510.26622 plots them, for 400,000 steps of 2048 sequences.
FIGURE_2 = {
    ("redllm", "150m"): 3.91e20, ("decllm", "150m"): 7.88e20, ("redllm", "1b"): 2.26e21, ("decllm", "1b"): 4.50e21,
    ("redllm", "8b"): 1.545e22, ("decllm", "8b"): 3.15e22,
}  # fmt: skip


@pytest.mark.parametrize(("family", "size"), FIGURE_2)
def test_the_papers_budget_buys_the_papers_steps(family, size):
    budget = FIGURE_2[family, size]
    _, runs = load_study(
        [PAPER],
        [f"Study.families = ('{family}',)", "Study.labels = ('it',)", f"Study.sizes = ('{size}',)",
         "Study.budget = @IsoFlop()", f"IsoFlop.budgets = ({budget},)", "IsoFlop.convention = 'paper'"],
    )  # fmt: skip
    assert runs[0].config.steps == pytest.approx(400_000, rel=0.003)
    assert runs[0].flops("paper") == pytest.approx(budget, rel=1e-5)


def test_every_run_is_what_its_gin_files_and_bindings_make():
    """The configs that a design plans with are those that `triarch train` will build from the written command."""
    study, runs = load_study([STUDY], ["Study.learning_rates = (1e-3, 4e-3)", "Study.batch_sizes = (4, 16)",
                                       "Study.seeds = (1, 2)", "IsoFlop.budgets = (1e11, 1e12)"])  # fmt: skip
    assert len({run.name for run in runs}) == len(runs) > 100
    for run in runs[:: len(runs) // 12]:
        built = run_config(run.gin_files, tuple(f"{name} = {value!r}" for name, value in run.bindings))
        assert built == run.config
        assert run.config.optimizer.learning_rate.warmup_steps == round(study.warmup_fraction * run.config.steps)


def test_runs_of_a_budget_cost_the_same():
    study, runs = load_study([STUDY], [])
    assert len(study.budget.budgets) >= 4
    for budget in study.budget.budgets:
        for family in study.families:
            own = [run for run in runs if (run.budget, run.family) == (budget, family)]
            assert len({run.size for run in own}) >= 5
            for run in own:
                model, steps = run.config.model, run.config.steps
                sides = {"redllm": (128, 128, 128), "decllm": (0, 256, 256), "ettin_encoder": (256, 0, 77)}[run.family]
                flops = steps * run.config.batch_size * model.flops(sides[0], sides[1], "train", sides[2])
                assert flops == pytest.approx(budget * (1 + run.budget_error), rel=1e-9)
                assert abs(run.budget_error) <= 0.5 / steps * 1.02
                assert 0.9 < run.tokens / model.num_params_non_embedding() < 310


COST = SequenceCost(120, 100, {"paper": 500.0, "train": 1500.0}, 256, 128)


@pytest.mark.parametrize(
    ("budget", "level", "sequences"),
    [
        (IsoFlop((3e6,)), 3e6, 2000.0),
        (IsoFlop((3e6,), "paper"), 3e6, 6000.0),
        (TokensPerParameter((20.0,)), 20.0, 2000 / 256),
        (TokensPerParameter((20.0,), "all"), 20.0, 2400 / 256),
        (FixedTokens((2.56e5,)), 2.56e5, 1000.0),
        (FixedTokens((2.56e5,), "scored"), 2.56e5, 2000.0),
    ],
)
def test_what_a_budget_buys(budget, level, sequences):
    budget.validate()
    assert budget.sequences(level, COST) == pytest.approx(sequences)
    assert budget.spent(sequences, COST) == pytest.approx(level)
    assert budget.keeps(sequences, COST)


def test_sizes_far_from_a_budgets_optimum_are_left_out():
    budget = IsoFlop((3e6,), tokens_per_parameter=(1, 300))
    assert budget.keeps(100, COST) and not budget.keeps(0.3, COST) and not budget.keeps(1000, COST)


@pytest.mark.parametrize(
    ("bindings", "words"),
    [
        (["IsoFlop.budgets = ()"], "IsoFlop.budgets is empty"),
        (["IsoFlop.budgets = (1e11, 1e11)"], "names something twice"),
        (["IsoFlop.budgets = (-1.0,)"], "a positive number"),
        (["IsoFlop.convention = 'trian'"], "did you mean 'train'"),
        (["IsoFlop.tokens_per_parameter = (5, 1)"], "the smaller one first"),
        (["IsoFlop.tokens_per_parameter = (1e8, 1e9)"], "holds no run"),
        (["IsoFlop.budgets = (1e6,)", "IsoFlop.tokens_per_parameter = ()"], "less than a step"),
        (["IsoFlop.budget = (1e11,)"], "did you mean 'budgets'"),
        (["Study.budget = @IsoFlop"], "a reference with parentheses|expected"),
        (["Study.warmup_fraction = 1.0"], "Study.warmup_fraction"),
        (["Study.attempts = 0"], "Study.attempts"),
        (["Study.seeds = (1, 1)"], "names something twice"),
        (["Study.batch_sizes = (0,)"], "batch_size"),
        (["Study.learning_rates = (-1.0,)"], "peak"),
        (["Study.window = 512"], "DataConfig.window is 256"),
        (["Ladder.between = ('tiny_s', 'tiny_l')"], "did you mean"),
        (["Study.families = ('redlm', 'decllm', 'ettin_encoder')"], "no gin file"),
    ],
)
def test_bad_designs_are_one_line(bindings, words):
    with pytest.raises(UserError, match=words):
        load_study([STUDY], bindings)


def test_describe_prints_runs_costs_and_the_total(tmp_path, capsys):
    out = tmp_path / "study.json"
    assert main(["describe", f"--gin_file={PAPER}", "--topology=v5p:4x4x4", "--mfu=0.5", f"--json={out}"]) == 0
    shown = capsys.readouterr().out
    assert "redllm_8b" in shown and "1.545e+22" in shown and "at an assumed MFU of 50%" in shown
    import json

    told = json.loads(out.read_text())
    row = next(row for row in told["runs"] if row["run"] == "decllm_1b")
    # 459 TFLOP/s is a v5p chip's peak.
    assert row["chip_hours"] == pytest.approx(row["flops"]["train"] / (459e12 * 0.5 * 3600))
    assert told["total"]["chip_hours"] == pytest.approx(sum(row["chip_hours"] for row in told["runs"]))
    assert told["total"]["hours"] == pytest.approx(told["total"]["chip_hours"] / 64)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([f"--gin_file={PAPER}", "--mfu=40"], "--mfu=40: expected a share"),
        ([f"--gin_file={PAPER}", "--topology=v5p:4x4x5"], "no such slice"),
        (["--gin_file=models/redllm/8b.gin", "--topology=v5p:4x4x4"], "gin file of a study"),
    ],
)
def test_bad_flags_of_describe_are_one_line(flags, words, capsys):
    assert main(["describe", *flags]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_commands_for_a_fleet_are_quoted_for_a_shell(tmp_path, capsys):
    folder, file = tmp_path / "it's here; $HOME", tmp_path / "commands.sh"
    assert main(["sweep", f"--study={STUDY}", f"--output={folder}", f"--commands={file}"]) == 0
    lines = file.read_text().splitlines()
    _, runs = load_study([STUDY], [])
    assert len(lines) == len(runs) + 2 and not folder.exists()
    # A shell gives every line back in words: each workdir is one of them.
    script = f"triarch() {{ printf '%s\\n' \"$@\"; }}\n{lines[-1]}"
    words = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    dearest = max(runs, key=lambda run: run.flops("train"))
    assert f"--workdir={folder}/runs/{dearest.name}" in words and f"--model={folder}/runs/{dearest.name}" in words
    assert f"--gin.RunConfig.steps={dearest.config.steps}" in words


def test_a_finished_run_under_another_config_is_refused(tmp_path):
    from triarch.training.record.config_classes import to_plain
    from triarch.training.record.fingerprint import CONFIG_JSON, changes, config_fingerprint

    _, runs = load_study([STUDY], [])
    config, folder = runs[0].config, tmp_path
    import json

    (folder / CONFIG_JSON).write_text(json.dumps(to_plain(config) | {"store_fingerprint": "x"}))
    assert changes(folder, dataclasses.replace(config, seed=9)) == []  # Of a run that never trained.
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    assert changes(folder, config) == []
    assert changes(folder, dataclasses.replace(config, log_every=99)) == []
    longer = dataclasses.replace(config, steps=config.steps + 1)
    assert changes(folder, longer) == [f"steps: {config.steps} -> {config.steps + 1}"]
    plain = [to_plain(one) for one in (config, dataclasses.replace(config, log_every=99), longer)]
    prints = [config_fingerprint(one) for one in plain]
    assert prints[0] == prints[1] != prints[2]


def test_the_worker_runs_verbs_until_its_input_ends(tmp_path):
    import json

    ask = [
        {"arguments": ["describe", "--gin_file=models/redllm/8b.gin"], "log": str(tmp_path / "a.log")},
        {"arguments": ["describe", "--gin_file=models/redllm/9b.gin"], "log": str(tmp_path / "b.log")},
        {"arguments": ["describe", "--no_such_flag"], "log": str(tmp_path / "c.log")},
    ]
    process = subprocess.Popen([sys.executable, "-m", "triarch.cli.worker"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    statuses = []
    for request in ask:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        statuses.append(json.loads(process.stdout.readline())["status"])
    process.stdin.close()
    assert process.wait() == 0 and statuses == [0, 1, 2]
    assert "8,589,934,592" in (tmp_path / "a.log").read_text()
    assert "did you mean" in (tmp_path / "b.log").read_text()

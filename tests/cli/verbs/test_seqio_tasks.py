"""`triarch prepare` of a user's own tasks and mixtures: one command each; wrong flags and names in one line."""

import json

import numpy as np
import pytest
import seqio

from tests.tasks import own_tasks
from triarch.cli.gin.files import build, parse
from triarch.cli.main import main
from triarch.data.store import TokenStore
from triarch.objectives import CausalLM, MaskedLM, PrefixLM, SpanCorruption
from triarch.objectives.base import SpecialTokens
from triarch.training.inputs import open_inputs

LENGTHS = "--sequence_length=inputs:24,targets:40"


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    own_tasks.register(folder)
    return folder


@pytest.fixture(scope="module")
def mixture(folder):
    """The folder of a mixture's stores, and what `prepare` reported."""
    assert (
        main(["prepare", "--task=own_mixture", f"--output={folder / 'mix'}", LENGTHS, f"--json={folder / 'mix.json'}"])
        == 0
    )
    return folder / "mix", json.loads((folder / "mix.json").read_text())


def error_of(capsys, *argv):
    assert main(["prepare", *map(str, argv)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and len(error) < 500, error
    return error


def test_a_mixture_has_seqios_rates(mixture):
    path, told = mixture
    own = seqio.MixtureRegistry.get("own_mixture")
    rates = {task.name: own.get_rate(task) for task in own.tasks}
    # own_inner has the rate 2, three quarters of it own_function; which is there itself with sqrt(20) too.
    assert rates == pytest.approx({"own_function": 1.5 + 20**0.5, "own_random": 0.5})
    total = sum(rates.values())
    assert told["rates"] == pytest.approx({name: rate / total for name, rate in rates.items()})
    parse([str(path / "own_mixture.gin")], [])
    (phase,) = build("DataConfig").store.phases
    assert phase.weights == pytest.approx([rate / total for rate in rates.values()])


@pytest.mark.slow
def test_a_run_meets_the_rates(mixture):
    path, told = mixture
    bindings = ["RunConfig.batch_size=100", "RunConfig.steps=100", "RunConfig.eval_every=None"]
    parse(["runs/redllm.gin", "models/redllm/150m.gin", str(path / "own_mixture.gin")], bindings)
    batches = open_inputs(build("RunConfig")).training()
    counts = np.zeros(2)
    for step in range(100):
        counts += np.bincount([number for number, _, _ in batches.example_ids(step)], minlength=2)
    assert counts / counts.sum() == pytest.approx(list(told["rates"].values()), abs=0.01)


def test_packed_rows_count_as_their_examples(folder):
    """Weights are of rows: of a task whose examples are short there are more in a row."""
    flags = ["--layout=packed_pairs", LENGTHS, "--split=train"]
    assert main(["prepare", "--task=own_mixture", f"--output={folder / 'packed'}", *flags]) == 0
    parse([str(folder / "packed" / "own_mixture.gin")], [])
    mixed = build("DataConfig").store
    splits = [TokenStore.open(store).manifest.splits["train"] for store in mixed.stores]
    weights = mixed.phases[0].weights
    by_example = [weight * split.documents / split.examples for weight, split in zip(weights, splits, strict=True)]
    rates = np.array([1.5 + 20**0.5, 0.5])
    assert np.array(by_example) / sum(by_example) == pytest.approx(rates / rates.sum())


def test_a_task_of_two_mixtures_is_prepared_once(mixture, capsys):
    path, _ = mixture
    before = (path / "own_random" / "manifest.json").stat().st_mtime_ns
    assert main(["prepare", "--task=own_inner", f"--output={path}", LENGTHS]) == 0
    assert capsys.readouterr().out.count("was there already") == 2
    assert (path / "own_random" / "manifest.json").stat().st_mtime_ns == before
    assert (path / "own_inner.gin").is_file() and (path / "own_mixture.gin").is_file()
    # With other lengths it is another store.
    assert "exists already" in error_of(
        capsys, "--task=own_inner", f"--output={path}", "--sequence_length=inputs:9,targets:9"
    )


def test_inspect_shows_either(folder, capsys):
    """Raw text under an objective of triarch's, and what SeqIO corrupted as it is."""
    for task, flags in (("own_text", ["--window=64", "--add_modes"]), ("own_corrupted", [LENGTHS])):
        assert main(["prepare", f"--task={task}", f"--output={folder / task}", *flags]) == 0
    assert main(["inspect", str(folder / "own_corrupted")]) == 0
    shown = capsys.readouterr().out
    assert "own_corrupted[train]:0: inputs, tokens 0-22 of 22" in shown and "[end of inputs]" in shown
    gin = folder / "inspected.gin"
    gin.write_text(
        f'RunConfig.data = @DataConfig()\nDataConfig.window = 64\nDataConfig.store = "{folder / "own_text"}"\n'
        "RunConfig.objective = @SpanCorruption()\n"
    )
    assert main(["inspect", f"--gin_file={gin}", "--architecture=encoder-decoder"]) == 0
    assert "encoder reads" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("objective", "architecture"),
    [
        (CausalLM(), "decoder-only"),
        (PrefixLM(), "encoder-decoder"),
        (SpanCorruption(), "encoder-decoder"),
        (MaskedLM(), "encoder-only"),
    ],
)
def test_raw_text_feeds_each_objective(folder, objective, architecture):
    path = folder / "raw"
    if not path.exists():
        assert main(["prepare", "--task=own_text", f"--output={path}", "--window=64"]) == 0
    store = TokenStore.open(path)
    vocabulary = store.manifest.vocabulary
    transform = objective.transform(architecture, SpecialTokens.from_manifest(vocabulary.special), vocabulary.size, 64)
    made = transform(store.split("train")[0], np.random.default_rng(0))
    assert any(weights.sum() > 0 for name, weights in made.items() if name.endswith("loss_weights"))


def test_bad_flags_and_names(folder, capsys):
    output = f"--output={folder / 'no'}"
    for flags, expected in (
        (["--task=own_mixtur"], "unknown task 'own_mixtur' (did you mean 'own_mixture'?); your own: --module=MODULE"),
        (["--task=own_text", "--deduplicate"], "--deduplicate has no effect on --task=own_text"),
        (["--task=stdlib_code", "--split=train"], "--split has no effect on --task=stdlib_code"),
        (["--task=own_text", "--sequence_length=12"], "expected inputs:N,targets:M"),
        (["--task=own_text", "--sequence_length=target:12"], "own_text has no target (did you mean 'targets'?)"),
        (["--task=own_text", "--num_epochs=0"], "--num_epochs=0: expected at least 1"),
        (["--task=own_text", "--seqio_cache_dir=nowhere"], "--seqio_cache_dir=nowhere: no such folder"),
        (["--task=own_text", "--layout=windws"], "unknown layout (did you mean 'windows'?)"),
    ):
        assert expected in error_of(capsys, output, *flags)
    assert not (folder / "no").exists()


def test_rates_that_cannot_be_told(folder, capsys):
    def unknown(task):
        raise KeyError(task.name)

    for name, rates, expected in (
        ("own_raising", unknown, "the rate of own_function cannot be told: KeyError: 'own_function'"),
        ("own_zero", 0, "all its rates are 0"),
        ("own_negative", -1, "own_function has the rate -1.0, expected 0 or more"),
    ):
        seqio.MixtureRegistry.add(name, [("own_function", rates)])
        assert expected in error_of(capsys, f"--task={name}", f"--output={folder / 'rates'}")


def test_a_module_by_the_flag(folder, capsys):
    (folder / "looked_in.py").write_text(
        'import seqio\nseqio.MixtureRegistry.add("own_by_module", [("own_text", lambda task: 2.0)])\n'
    )
    flags = [f"--module={folder / 'looked_in.py'}", "--window=32", f"--output={folder / 'by_module'}"]
    assert main(["prepare", "--task=own_by_module", *flags]) == 0
    error = error_of(capsys, "--task=own_by_modul", *flags)
    assert "did you mean 'own_by_module'?); looked in" in error and "looked_in.py" in error

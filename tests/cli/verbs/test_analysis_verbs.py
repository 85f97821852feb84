"""`triarch extrapolate`, `triarch attention` and `triarch evaluate --suite` as a person types them."""

from __future__ import annotations

import csv
import json

import pytest

from tests.evaluation import domains
from tests.interchange import exports
from tests.models import tiny
from triarch.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("verbs")
    exports.export(root, tiny.REDLLM)
    (root / "export").rename(root / "red")
    for i, name in enumerate(("suite/web/blogs", "suite/web/news", "suite/books")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        domains.write_domain(root / name, domains.random_windows(5, seed=i))
    return root


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_extrapolate_writes_tables_and_figures(folder, tmp_path, capsys):
    arguments = [f"--model={folder / 'red'}", f"--store={folder / 'suite/books'}", f"--output={tmp_path / 'out'}"]
    more = ["--trained_length=8", "--lengths=8,12,20", "--prefixes=1,4", f"--json={tmp_path / 'found.json'}"]
    assert main(["extrapolate", *arguments, *more]) == 0
    rows = table(tmp_path / "out" / "extrapolation.csv")
    assert [(row["model"], row["prefix"], row["length"]) for row in rows] == [
        ("red", prefix, length) for prefix in ("1", "4") for length in ("8", "12", "20")
    ]
    found = json.loads((tmp_path / "found.json").read_text())["losses"]
    assert [float(row["nats_per_token"]) for row in rows] == pytest.approx([row["nats_per_token"] for row in found])
    assert len(table(tmp_path / "out" / "positions.csv")) == 19 + 16
    for name in ("extrapolation", "loss-by-position"):
        for suffix in (".svg", ".pdf", ".png"):
            assert (tmp_path / "out" / (name + suffix)).stat().st_size > 1000
    assert "nats/token" in capsys.readouterr().out


@pytest.mark.slow
def test_extrapolate_slows_the_rotation_of_a_model_that_is_there(folder, tmp_path):
    """Texts of the original length are read as before, although the longest of the same call slow the rotation."""
    arguments = ["extrapolate", f"--model={folder / 'red'}", f"--store={folder / 'suite/books'}", "--trained_length=8"]
    arguments += ["--prefixes=4", f"--json={tmp_path / 'found.json'}", f"--output={tmp_path / 'out'}"]

    def losses(*flags, lengths="8,20"):
        assert main([*arguments, f"--lengths={lengths}", *flags]) == 0
        return [row["nats_per_token"] for row in json.loads((tmp_path / "found.json").read_text())["losses"]]

    scaling = ["--gin.ModelConfig.rope_scaling=@RopeScaling()", "--gin.RopeScaling.factor=4.0"]
    dynamic = ["--gin.RopeScaling.kind='dynamic'", "--gin.RopeScaling.original_length=8"]
    short, long = losses()
    found = losses(*scaling, *dynamic, lengths="8,12,20")
    assert found[0] == pytest.approx(short, rel=1e-6) and abs(found[2] - long) > 1e-4
    found = losses(*scaling, "--gin.RopeScaling.kind='linear'")
    assert abs(found[0] - short) > 1e-4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gin.RopeScaling.factor=4.0"], "RopeScaling.factor has no effect"),
        (["--gin.ModelConfig.rope_scalin=None"], "did you mean 'rope_scaling'?"),
        (["--gin.ModelConfig.d_ff=12"], "its parameters do not fit the changed ModelConfig, which needs others"),
        (["--gin.ModelConfig.rope_base=0.0"], "ModelConfig.rope_base = 0.0: expected a positive number"),
    ],
)
def test_changes_that_extrapolate_refuses(flags, message, folder, tmp_path, capsys):
    arguments = [f"--model={folder / 'red'}", f"--store={folder / 'suite/books'}", f"--output={tmp_path / 'out'}"]
    assert main(["extrapolate", *arguments, "--trained_length=8", "--lengths=8", *flags]) == 1
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


@pytest.mark.slow
def test_attention_writes_tables_and_figures(folder, tmp_path, capsys):
    arguments = [f"--model={folder / 'red'}", f"--store={folder / 'suite/books'}", f"--output={tmp_path / 'out'}"]
    assert main(["attention", *arguments, "--layers=1", "--heads=1", f"--json={tmp_path / 'found.json'}"]) == 0
    heads = table(tmp_path / "out" / "attention.csv")
    found = json.loads((tmp_path / "found.json").read_text())["models"][0]["heads"]
    assert len(heads) == len(found) == 2 * (2 + 3 + 3)
    assert [row["kind"] for row in heads] == ["encoder"] * 4 + (["decoder"] * 2 + ["cross"] * 2) * 3
    assert len(table(tmp_path / "out" / "locality.csv")) == 6 * (2 + 3)
    assert len(table(tmp_path / "out" / "keys.csv")) == 6 * 3
    rows = table(tmp_path / "out" / "map-red-cross.csv")
    assert [(row["layer"], row["head"], row["query"]) for row in rows] == [("1", "1", str(i)) for i in range(6)]
    assert all(sum(float(row[f"key_{key}"]) for key in range(6)) == pytest.approx(1, abs=2e-3) for row in rows)
    tokens = table(tmp_path / "out" / "tokens.csv")
    window = domains.random_windows(5, seed=2)[0].tolist()
    read = [int(row["token"]) for row in tokens if row["side"] == "encoder"]
    shifted = [int(row["token"]) for row in tokens if row["side"] == "decoder"]
    assert (read, shifted) == (window[:6], [domains.SPECIAL["bos"], *window[6:11]])
    names = ("attention-locality", "attention-rank", "attention-entropy", "attention-keys", "map-red-encoder")
    assert all((tmp_path / "out" / f"{name}.png").exists() for name in names)
    assert "effective rank" in capsys.readouterr().out


def test_a_suite_is_one_table(folder, tmp_path, capsys):
    arguments = [f"--model={folder / 'red'}", f"--suite={folder / 'suite'}", f"--output={tmp_path / 'out'}"]
    assert main(["evaluate", *arguments, "--scoring=paired", f"--json={tmp_path / 'found.json'}"]) == 0
    rows = table(tmp_path / "out" / "suite.csv")
    labels = [(row["average"], row["source"], row["domain"]) for row in rows]
    assert labels == [
        ("domain", "books", "books"), ("domain", "web", "blogs"), ("domain", "web", "news"),
        ("micro", "web", ""), ("macro", "web", ""),
        ("micro", "", ""), ("macro", "", ""), ("macro_sources", "", ""),
    ]  # fmt: skip
    (model,) = json.loads((tmp_path / "found.json").read_text())["models"]
    assert [float(row["nats_per_token"]) for row in rows] == pytest.approx(
        [loss["nats_per_token"] for loss in model["losses"]]
    )
    config = tiny.REDLLM
    assert model["forward_flops_paper"] == config.flops(6, 6, "paper")
    assert 3 * model["forward_flops_train"] == pytest.approx(config.flops(6, 6, "train"))
    assert "web/news" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verb", "flags", "message"),
    [
        ("extrapolate", ["--store={books}"], "does not say how long its training windows were: give"),
        ("extrapolate", ["--store={books}", "--trained_length=0"], "--trained_length=0: expected at least 2"),
        ("extrapolate", ["--store={books}", "--lengths=8,many"], "--lengths=8,many: expected whole numbers"),
        ("extrapolate", ["--store={books}", "--trained_length=64"], "holds 60 tokens (5 windows of 12), not one"),
        ("extrapolate", ["--store={books}", "--model={red}"], "would go by the same name in the table, 'red'"),
        ("extrapolate", ["--store={books}x"], "no such token store (did you mean 'books'?)"),
        ("attention", ["--store={books}", "--heads=9"], "--heads: "),
        ("attention", ["--store={suite}"], "not a token store"),
        ("attention", ["--store={books}", "--model={books}"], "neither a run with checkpoints nor an export"),
        ("evaluate", ["--suite={suite}", "--in_domain={books}"], "--suite has stores of its own"),
        ("evaluate", ["--suite={suite}/wbe"], "no such folder of token stores (did you mean 'web'?)"),
        ("evaluate", ["--in_domain={books}", "--output=out"], "--output is for --suite"),
        ("evaluate", ["--in_domain={books}", "--model={red}"], "more than one --model is for --suite"),
        ("evaluate", ["--suite={suite}", "--scoring=piared"], "no scoring 'piared' (did you mean 'paired'?)"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(verb, flags, message, folder, tmp_path, capsys):
    paths = {"books": folder / "suite/books", "suite": folder / "suite", "red": folder / "red"}
    arguments = [f"--model={folder / 'red'}", *(flag.format(**paths) for flag in flags)]
    output = [] if verb == "evaluate" else [f"--output={tmp_path}"]
    assert main([verb, *arguments, *output]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1

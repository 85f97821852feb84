"""`triarch fit` as a person types it."""

import argparse
import json

import numpy as np
import pytest

from triarch.cli.verbs import fit
from triarch.errors import UserError
from triarch.scaling.checks import mean_objective


@pytest.fixture(autouse=True)
def few_mean_starts(few_starts, monkeypatch):
    monkeypatch.setattr(mean_objective, "STARTS", 5)


def run(*argv):
    parser = argparse.ArgumentParser()
    fit.add_arguments(parser)
    return fit.run(parser.parse_args([str(argument) for argument in argv]))


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    params, tokens = 10 ** rng.uniform(7, 10, 24), 10 ** rng.uniform(9, 11, 24)
    loss = 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28
    rows = [f"{n},{d},{y},{9 * n**-0.2 + 0.4}" for n, d, y in zip(params, tokens, loss, strict=True)]
    path = tmp_path / "runs.csv"
    path.write_text("N,D,loss,power_loss\n" + "\n".join(rows) + "\n")
    return path


def test_chinchilla_from_a_positional_table(table, capsys):
    columns = ("--params_column=N", "--tokens_column=D", "--loss_column=loss")
    result = run(table, "--law=chinchilla", *columns, "--bootstraps=20")
    expected = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    assert result["parameters"] == pytest.approx(expected, rel=1e-6)
    assert set(result["intervals"]) == set(expected) and result["num_points"] == 24
    json.dumps(result, allow_nan=False)
    assert "406.4" in capsys.readouterr().out


def test_power_with_a_figure(table, tmp_path, capsys):
    figure = tmp_path / "law.svg"
    result = run(
        f"--csv={table}",
        "--law=power",
        "--x_column=N",
        "--loss_column=power_loss",
        "--bootstraps=20",
        f"--figure={figure}",
    )
    assert result["parameters"] == pytest.approx({"A": 9.0, "alpha": 0.2, "E": 0.4}, rel=1e-6)
    assert figure.read_text().startswith("<svg")
    assert "L = A / x^alpha + E, 24 points" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--law=power", "--x_column=M"), "no column 'M'"),
        (("--law=power",), "fit --law=power needs --x_column=NAME"),
        (("--law=power", "--x_column=,"), "--x_column=,: names no column"),
        (("--law=chinchilla", "--params_column=N"), "needs --tokens_column=NAME"),
        (("--law=power", "--x_column=N", "--params_column=N"), "has no --params_column; it takes --x_column"),
        (
            ("--law=power", "--x_column=N", "--figure=law.gif"),
            r"law\.gif: expected a name that ends in \.svg, \.pdf, \.png, \.csv",
        ),
    ],
)
def test_mistakes_are_one_line(table, flags, message):
    with pytest.raises(UserError, match=message):
        run(table, "--bootstraps=0", *flags)


def write(tmp_path, text, name="bad.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


POWER = ("--law=power", "--x_column=N", "--loss_column=loss")
CHINCHILLA = ("--law=chinchilla", "--params_column=N", "--tokens_column=D", "--bootstraps=0", "--held_out=0")


def rows(count=12, seed=0, **changes):
    """Runs as text cells, some of them changed: rows(3, N={0: "x"})."""
    rng = np.random.default_rng(seed)
    params, tokens = 10 ** rng.uniform(7, 10, count), 10 ** rng.uniform(9, 11, count)
    loss = 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28
    cells = {"N": list(map(repr, map(float, params))), "D": list(map(repr, map(float, tokens))),
             "loss": list(map(repr, map(float, loss)))}  # fmt: skip
    for column, changed in changes.items():
        for row, cell in changed.items():
            cells[column][row] = cell
    return cells


def text_of(cells):
    return ",".join(cells) + "\n" + "".join(",".join(row) + "\n" for row in zip(*cells.values(), strict=True))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (rows(N={2: "big"}), r"row 3 \(line 4\): N is 'big', expected a number above zero"),
        (rows(loss={4: "-2.1"}), r"row 5 \(line 6\): loss is '-2.1', expected a number above zero"),
        (rows(loss={4: "nan"}), r"row 5 \(line 6\): loss is 'nan', expected a number above zero"),
        (rows(D={0: ""}), r"row 1 \(line 2\): D is empty, expected a number above zero"),
        (rows(N=dict.fromkeys(range(12), "1e8")), r"N is 1e\+08 in every row: its exponent cannot be told"),
        (rows(4), "4 different points of N and D: a law with 5 parameters needs at least 5"),
        ({"params": ["1"], "D": ["2"], "loss": ["3"]}, r"no column 'N' \(one of: D, loss, params\)"),
    ],
)
def test_bad_tables_are_one_line(tmp_path, cells, message):
    with pytest.raises(UserError, match=message) as caught:
        run(write(tmp_path, text_of(cells)), *CHINCHILLA)
    assert "\n" not in str(caught.value)


def test_a_misspelt_column_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"no column 'los'.*did you mean 'loss'"):
        run(write(tmp_path, text_of(rows())), *CHINCHILLA, "--loss_column=los")


def test_the_same_run_twice_is_a_warning_that_names_its_rows(tmp_path):
    cells = rows()
    for column in cells.values():
        column.append(column[3])
    result = run(write(tmp_path, text_of(cells)), *CHINCHILLA)
    assert any("rows 4, 13" in warning and "more than once" in warning for warning in result["warnings"])
    assert result["num_points"] == 13


def test_other_units_are_a_warning_and_a_flag(tmp_path):
    cells = rows()
    cells["N"] = [repr(float(cell) / 1e6) for cell in cells["N"]]
    path = write(tmp_path, text_of(cells))
    result = run(path, *CHINCHILLA)
    assert any("N is" in warning and "in millions" in warning for warning in result["warnings"])
    told = run(path, *CHINCHILLA, "--params_unit=1e6")
    assert not any("in millions" in warning for warning in told["warnings"])
    assert told["parameters"]["A"] == pytest.approx(406.4, rel=1e-5)
    mixed = rows(N={5: "350.5", 7: "12.1"})
    result = run(write(tmp_path, text_of(mixed)), *CHINCHILLA)
    assert any("N, rows 6, 8" in warning and "one unit for all" in warning for warning in result["warnings"])


def test_tokens_follow_from_flops_as_in_the_extracted_chinchilla_table(tmp_path):
    cells = rows()
    flops = [6 * float(n) * float(d) for n, d in zip(cells["N"], cells["D"], strict=True)]
    given = {"x": cells["D"], "Model Size": cells["N"], "Training GFLOP": [repr(one / 1e9) for one in flops]}
    path = write(tmp_path, text_of(given | {"loss": cells["loss"]}))
    flags = ("--law=chinchilla", "--flops_column=Training GFLOP", "--flops_unit=1e9", "--bootstraps=0", "--held_out=0")
    result = run(path, *flags, "--params_column=Model Size")
    assert result["parameters"]["B"] == pytest.approx(410.7, rel=1e-5)
    assert any("tokens are FLOPs / (6 params)" in warning for warning in result["warnings"])
    with pytest.raises(UserError, match=r"needs --params_column=NAME; .*bad\.csv has 'Model Size'$"):
        run(path, *flags)
    with pytest.raises(UserError, match=r"needs --tokens_column=NAME \(or --flops_column, .*\); .* has 'x', .*'loss'$"):
        run(path, "--law=chinchilla", "--params_column=Model Size")


def test_accuracies_in_per_cent(tmp_path):
    loss = np.linspace(2.2, 3.6, 20)
    cells = {"loss": list(map(str, loss)), "acc": [f"{25 + 60 / (1 + np.exp(5 * (y - 2.8)))}" for y in loss]}
    path = write(tmp_path, text_of(cells))
    flags = ("--law=downstream", "--y_column=acc", "--floor=0.25", "--bootstraps=0", "--held_out=0")
    assert run(path, *flags, "--y_unit=0.01")["parameters"]["ceiling"] == pytest.approx(0.85, abs=1e-6)
    with pytest.raises(UserError, match=r"row 1: .* as --y_unit=0.01 does"):
        run(path, *flags)


@pytest.mark.parametrize(("unit", "change"), [("bits", lambda y: y / np.log(2)), ("perplexity", np.exp)])
def test_losses_in_bits_and_perplexities(tmp_path, unit, change):
    cells = rows()
    cells["loss"] = [repr(float(change(float(cell)))) for cell in cells["loss"]]
    result = run(write(tmp_path, text_of(cells)), *CHINCHILLA, f"--loss_in={unit}")
    assert result["parameters"]["E"] == pytest.approx(1.69, rel=1e-5)


def test_perplexities_are_not_taken_for_losses_in_silence(tmp_path):
    cells = rows()
    cells["val_ppl"] = cells.pop("loss")
    path = write(tmp_path, text_of(cells))
    assert any("--loss_in=perplexity" in one for one in run(path, *CHINCHILLA, "--loss_column=val_ppl")["warnings"])
    cells["val_ppl"][3] = "0.9"
    with pytest.raises(UserError, match=r"row 4: a perplexity of 0.9, expected one above 1"):
        run(write(tmp_path, text_of(cells)), *CHINCHILLA, "--loss_column=val_ppl", "--loss_in=perplexity")


def test_rows_with_empty_cells_are_left_out_when_asked(tmp_path):
    cells = rows(14, loss={1: "", 4: "nan", 6: "inf"})
    cells["note"] = [""] * 14
    path = write(tmp_path, text_of(cells))
    with pytest.raises(UserError, match=r"row 2 \(line 3\): loss is empty"):
        run(path, *CHINCHILLA)
    result = run(path, *CHINCHILLA, "--skip_empty")
    assert result["num_points"] == 11
    assert result["warnings"][:2] == ["row 2: left out, a cell is empty", "rows 5, 7: left out, a cell is not finite"]
    wrong = write(tmp_path, text_of(rows(14, loss={1: "n/a", 4: "3;x"})), "wrong.csv")
    with pytest.raises(UserError, match=r"row 5 \(line 6\): loss is '3;x', expected a number above zero"):
        run(wrong, *CHINCHILLA, "--skip_empty")
    with pytest.raises(UserError, match="every row has an empty cell"):
        run(path, *CHINCHILLA, "--skip_empty", "--loss_column=note")


def test_flops_in_other_units_name_their_rows(tmp_path):
    cells = rows()
    cells["C"] = [repr(6 * float(n) * float(d)) for n, d in zip(cells["N"], cells["D"], strict=True)]
    cells["C"][2] = "1.5"
    result = run(write(tmp_path, text_of(cells)), *CHINCHILLA, "--flops_column=C")
    assert any("C, row 3" in warning and "FLOPs for each parameter" in warning for warning in result["warnings"])


@pytest.mark.slow
def test_rows_are_chosen_and_keep_their_numbers(tmp_path):
    cells = rows(16, loss={9: "40.0"})
    cells["status"] = ["failed"] * 2 + ["finished"] * 14
    cells["loss"][0] = ""
    path = write(tmp_path, text_of(cells))
    result = run(path, "--law=chinchilla", "--params_column=N", "--tokens_column=D", "--where=status=finished",
                 "--bootstraps=50")  # fmt: skip
    assert result["num_points"] == 14
    assert result["outlying_rows"][0]["row"] == 10
    assert any("outlying row" in warning and "10 (" in warning for warning in result["warnings"])
    with pytest.raises(UserError, match=r"no row has status = 'finishd'.*'finished'"):
        run(path, *CHINCHILLA, "--where=status=finishd")
    either = run(path, *CHINCHILLA, "--where=status=finished or N>0", "--skip_empty", "--bootstraps=0", "--held_out=0")
    assert either["num_points"] == 15
    with pytest.raises(UserError, match="no row has status = 'gone' or status = 'lost or found'"):
        run(path, *CHINCHILLA, "--where=status=gone or status=lost or found")


def test_the_last_row_of_each_run_and_columns_of_another_table(tmp_path):
    cells = rows(12)
    cells["run"] = [f"r{k // 2}" for k in range(12)]
    path = write(tmp_path, text_of(cells))
    last = run(path, *POWER, "--last_of=run", "--bootstraps=0", "--held_out=0")
    assert last["num_points"] == 6
    scores = "run,score\n" + "".join(f"r{k},{3 - 0.1 * k}\n" for k in range(5))
    other = write(tmp_path, scores, "scores.csv")
    flags = ("--law=power", "--x_column=N", "--loss_column=score", "--bootstraps=0", "--held_out=0")
    joined = run(path, *flags, "--last_of=run", f"--join={other}", "--on=run")
    assert joined["num_points"] == 5 and "rows 11, 12: left out, " in joined["warnings"][0]
    for more, message in (
        ((f"--join={other}",), "--join=TABLE and --on=COLUMN go together"),
        ((f"--join={other}", "--on=N"), "scores.csv: no column 'N' to join on"),
        ((f"--join={path}", "--on=run"), "the same run; expected one row for each|has such columns too"),
        ((f"--join={write(tmp_path, 'run,score' + chr(10) + 'x,1' + chr(10), 'x.csv')}", "--on=run"), "no row of one"),
    ):
        with pytest.raises(UserError, match=message):
            run(path, *flags, *more)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--where=status",), "--where=status: expected COLUMN=VALUE"),
        (("--fixed=E=low",), "no parameter 'low'"),
        (("--fixed=F=1",), "no parameter 'F'"),
        (("--budgets=1e20,x",), "--budgets: 'x' is no number"),
        (("--budgets=-1",), "budget -1: expected FLOPs above zero"),
        (("--params_unit=0",), "--params_unit=0: expected a number above zero"),
        (("--flops_unit=1e9",), "--flops_unit=1e\\+09: of which column\\? name it with --flops_column"),
        (("--held_out=1",), "held-out share is 1"),
        (("--pair_column=N",), "needs --group_column"),
        (("--window=3",), "has no --window"),
        (("--law=isoflop", "--run_column=N"), "has no --run_column; it takes --params_column"),
        (("--group_column=N",), "1 rows, at least 2 are needed"),
    ],
)
def test_misused_flags_are_one_line(table, flags, message):
    with pytest.raises(UserError, match=message):
        run(table, *CHINCHILLA, *flags)


def test_every_law_is_at_hand(tmp_path):
    rng = np.random.default_rng(0)
    params, ratio = 10 ** rng.uniform(7, 9.5, 40), 10 ** rng.uniform(0.3, 2, 40)
    table = {"N": params, "D": params * ratio, "U": params * ratio / 10 ** rng.uniform(0, 1.5, 40)}
    table["loss"] = 1.8 + 400 / table["N"] ** 0.34 + 1800 / table["D"] ** 0.36
    table["accuracy"] = 0.25 + 0.6 / (1 + np.exp(2 * (table["loss"] - 3)))
    table["lr"], table["bs"] = 1.8 * table["N"] ** -0.7 * table["D"] ** 0.3, 0.6 * table["D"] ** 0.57
    path = write(tmp_path, text_of({name: list(map(repr, map(float, cells))) for name, cells in table.items()}))
    nd = ("--params_column=N", "--tokens_column=D")
    for law, flags in {
        "data_constrained": (*nd, "--unique_tokens_column=U", "--fixed=alpha=0.34"),
        "hyperparameters": (*nd, "--learning_rate_column=lr", "--batch_column=bs"),
        "log_linear": ("--x_column=N,D", "--y_column=lr"),
        "downstream": ("--y_column=accuracy", "--floor=0.25"),
    }.items():
        result = run(path, f"--law={law}", *flags, "--bootstraps=20", "--held_out=0")
        assert result["law"] == law and result["parameters"]
        json.dumps(result, allow_nan=False)
    run(path, "--law=hyperparameters", *nd, "--learning_rate_column=lr", "--batch_column=bs", f"--output={tmp_path}/o")
    written = {one.name for one in (tmp_path / "o").iterdir()}
    assert {"fit.json", "summary.txt", "law.svg", "law.pdf", "law.png", "law.csv", "batch.svg"} <= written
    exponents = run(path, "--law=log_linear", "--x_column=N,D", "--y_column=lr", "--bootstraps=0")["parameters"]
    assert exponents == pytest.approx({"coefficient": 1.8, "exponent_N": -0.7, "exponent_D": 0.3}, rel=1e-6)


@pytest.mark.slow
def test_budgets_laws_and_groups(tmp_path, capsys):
    cells = {"family": [], "cell": [], "N": [], "D": [], "loss": [], "paper": [], "train": []}
    rng = np.random.default_rng(1)
    for cell in range(24):
        params = 10 ** rng.uniform(7, 10)
        tokens = params * 10 ** rng.uniform(0.3, 2)
        for family, scale, cost in (("dec", 400.0, 2.0), ("red", 520.0, 1.0)):
            loss = (1.8 + scale / params**0.34 + 1800 / tokens**0.36) * np.exp(0.003 * rng.normal())
            run_ = (family, cell, params, tokens, loss, cost * params * tokens, 3 * cost * params * tokens)
            for column, value in zip(cells, run_, strict=True):
                cells[column].append(str(value))
    path = write(tmp_path, text_of(cells))
    flags = ("--law=chinchilla", "--params_column=N", "--tokens_column=D", "--flops_column=paper,train")
    result = run(path, *flags, "--group_column=family", "--pair_column=cell", "--bootstraps=30", "--held_out=0",
                 "--budgets=1e21")  # fmt: skip
    json.dumps(result, allow_nan=False)
    printed = capsys.readouterr().out
    assert set(result["groups"]) == {"dec", "red"}
    (comparison,) = result["comparisons"]
    assert comparison["paired"] and comparison["pairs"] == 24
    assert [axis["axis"] for axis in comparison["axes"]] == ["paper", "train"]
    best = result["groups"]["red"]["optima_for_budgets"]
    assert {row["cost"] for row in best} == {"paper", "train"} and best[0]["flops"] == 1e21
    assert best[0]["params"] * best[0]["tokens"] == pytest.approx(1e21, rel=1e-6)
    ranked = run(path, "--law=power", "--x_column=N", "--bootstraps=0", "--compare_laws")["laws_compared"]
    assert {one["law"] for one in ranked} == {"power with offset", "pure power", "broken_power"}
    assert "red against dec (24 pairs resampled together)" in printed and "crossover" in printed
    power = run(path, "--law=power", "--x_column=N,paper,train,D", "--group_column=family", "--bootstraps=20",
                "--held_out=0")  # fmt: skip
    run(path, "--law=power", "--x_column=paper", "--group_column=family", "--bootstraps=20", "--held_out=0",
        f"--output={tmp_path}/o")  # fmt: skip
    names = {one.name for one in (tmp_path / "o").iterdir()}
    assert {"frontiers-paper.svg", "gap-paper-dec-red.csv", "dec-residuals.csv", "red-law.pdf"} <= names
    assert [fit["x_column"] for fit in power["groups"]["red"]["fits"]] == ["N", "paper", "train", "D"]
    assert len(power["comparisons"]) == 4


def test_isoflop_and_envelope(tmp_path):
    lines, curves = ["N,D,loss,C"], ["run,N,D,loss"]
    for flops in np.geomspace(1e17, 1e20, 5):
        for params in 0.1 * flops**0.5 * 2.0 ** np.arange(-3, 4):
            loss = 3 * flops**-0.03 * np.exp(0.02 * np.log(params / (0.1 * flops**0.5)) ** 2)
            lines.append(f"{params},{flops / 6 / params},{loss},{flops}")
    for index, params in enumerate(np.geomspace(1e7, 1e9, 8)):
        for tokens in params * np.geomspace(1, 80, 60):
            curves.append(f"r{index},{params},{tokens},{1.8 + 480 / params**0.35 + 2000 / tokens**0.36}")
    flags = ("--params_column=N", "--tokens_column=D", "--bootstraps=50")
    result = run(write(tmp_path, "\n".join(lines)), "--law=isoflop", *flags, "--flops_column=C",
                 f"--output={tmp_path / 'iso'}")  # fmt: skip
    assert result["parameters"]["a"] == pytest.approx(0.5, abs=1e-6)
    assert (tmp_path / "iso" / "optimal-N.png").stat().st_size > 1000
    result = run(write(tmp_path, "\n".join(curves)), "--law=envelope", *flags, "--run_column=run",
                 f"--output={tmp_path / 'env'}")  # fmt: skip
    assert result["parameters"]["a"] == pytest.approx(0.36 / 0.71, abs=0.06)
    assert (tmp_path / "env" / "law.csv").read_text().startswith("kind,N,flops,loss")


def test_one_table_and_only_one(table):
    with pytest.raises(UserError, match="name one table"):
        run("--law=power", "--x_column=N")
    with pytest.raises(UserError, match="name one table"):
        run(table, f"--csv={table}", "--law=power", "--x_column=N")

"""The Python API: the verbs as functions, equal to the command line."""

from __future__ import annotations

import doctest
import json

import numpy as np
import pytest

import triarch
from triarch import api
from triarch.cli.main import main
from triarch.cli.verbs import describe
from triarch.prepare.corpora.documents import LeftOut
from triarch.prepare.corpora.texts import Texts

SIZES = [1e6, 2e6, 4e6, 8e6, 16e6, 32e6]
COLUMNS = {"N": SIZES, "loss": [1.7 + 30.0 * n**-0.2 for n in SIZES]}
ROLES = {"x": "N", "loss": "loss"}


class Frame:
    """What pandas and polars have in common."""

    def __init__(self, columns):
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name):
        return np.asarray(self._columns[name])


def tables(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("N,loss\n" + "".join(f"{n!r},{loss!r}\n" for n, loss in zip(*COLUMNS.values(), strict=True)))
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]
    found = {"columns": COLUMNS, "rows": rows, "frame": Frame(COLUMNS), "path": path}
    try:
        import pandas
    except ImportError:
        return found
    return found | {"pandas": pandas.DataFrame(COLUMNS)}


def test_every_name_of_the_api_is_there():
    assert all(getattr(triarch, name) is not None for name in triarch.__all__)
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = triarch.no_such_name


@pytest.mark.slow
def test_fit_takes_every_kind_of_table_as_the_command_line_does(tmp_path, capsys):
    options = ["--law=power", "--x_column=N", "--loss_column=loss", "--bootstraps=0", "--held_out=0"]
    expected = tmp_path / "fit.json"
    found = tables(tmp_path)
    assert main(["fit", str(found["path"]), *options, f"--json={expected}"]) == 0
    parameters = json.loads(expected.read_text())["parameters"]
    assert parameters["alpha"] == pytest.approx(0.2, abs=1e-3)
    for kind, table in found.items():
        fitted = triarch.fit(table, "power", ROLES, bootstraps=0, held_out=0.0)
        assert fitted.result["parameters"] == parameters, kind
        assert list(fitted.fits) == [""]
    assert fitted.summary().strip() in capsys.readouterr().out
    assert len(fitted.figure().axes) == 1
    assert "fit.json" in fitted.write(tmp_path / "written")


@pytest.mark.slow
def test_examples_in_docstrings_are_true():
    assert doctest.testmod(api).attempted > 0
    assert not doctest.testmod(api).failed


def test_fit_refuses_what_it_cannot_read():
    with pytest.raises(triarch.UserError, match="columns differ in length"):
        triarch.fit({"N": [1.0], "loss": [1.0, 2.0]}, "power", ROLES)
    with pytest.raises(triarch.UserError, match="table: int: expected a DataFrame"):
        triarch.fit(3, "power", ROLES)
    with pytest.raises(triarch.UserError, match="no column 'n'"):
        triarch.fit(COLUMNS, "power", {"x": "n", "loss": "loss"})
    with pytest.raises(triarch.UserError, match="chinchilla"):
        triarch.fit(COLUMNS, "chinchila", ROLES)


def test_a_config_of_python_is_that_of_the_command_line(tmp_path):
    bindings = {"RunConfig.steps": 7000, "DataConfig.store": tmp_path, "RunConfig.objective": "@CausalLM()"}
    config = triarch.run_config("models/decllm/tiny_s.gin", bindings=bindings)
    assert (config.steps, config.data.store, config.objective.name) == (7000, str(tmp_path), "causal_lm")
    assert describe.describe(config)["steps"] == 7000
    with pytest.raises(triarch.UserError, match="RunConfig has no field 'step'"):
        triarch.run_config("models/decllm/tiny_s.gin", bindings={"RunConfig.step": 7})


def test_texts_are_documents_in_order():
    corpus = Texts(("one", "", "two"))
    first, empty, second = corpus.documents()
    assert (first.text, second.text, corpus.size) == ("one", "two", 6)
    assert isinstance(empty, LeftOut)
    # What joins to the same text is another corpus.
    assert corpus.version != Texts(("on", "e", "two")).version
    with pytest.raises(triarch.UserError, match="expected a sequence of texts"):
        triarch.make_store("one text", "nowhere", window=8)

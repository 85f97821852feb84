"""The notebooks run from their first cell to the last, offline, and say what they should."""

from __future__ import annotations

import json
import re

import pytest

from tests.notebooks import NOTEBOOKS, run


def printed(notebook):
    outputs = (output for cell in notebook["cells"] for output in cell.get("outputs", ()))
    return "".join(line for output in outputs for line in output["text"])


def test_each_is_a_notebook_whose_code_compiles():
    assert [path.stem for path in NOTEBOOKS] == ["fit_a_law", "three_architectures"]
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text())
        assert (notebook["nbformat"], notebook["cells"][0]["cell_type"]) == (4, "markdown")
        for cell in notebook["cells"]:
            assert cell["id"]
            if cell["cell_type"] == "code":
                compile("".join(cell["source"]), path.name, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    text = printed(run(path, tmp_path))
    if path.stem == "fit_a_law":
        low, high = map(float, re.search(r"interval ([\d.]+) to ([\d.]+); the truth is 0.34", text).groups())
        assert low < 0.34 < high
    else:
        pairs = re.findall(r"'some grass' +(-[\d.]+) nats, 'a letter' +(-[\d.]+) nats", text)
        assert len(pairs) == 3
        assert all(float(right) > float(wrong) for right, wrong in pairs)

"""The notebooks run from their first cell to the last, offline, and say what they should."""

from __future__ import annotations

import json

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
        assert "E + A / N^alpha + B / D^beta" in text or "N^" in text
        assert "alpha" in text
    else:
        for name in ("DecLLM", "RedLLM", "encoder"):
            assert f"{name:8}" in text

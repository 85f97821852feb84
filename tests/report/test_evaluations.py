"""What a study's analysis folder adds to its report: figures that show the tables, one table, nothing unescaped."""

from __future__ import annotations

import numpy as np
import pytest

from tests.report.study_folder import write_study, write_table
from tests.report.test_page import Page
from triarch.errors import UserError
from triarch.report.attention_figures import along_panel, depth_panel, map_panel
from triarch.report.evaluations import suite_table
from triarch.report.length_figures import extrapolation_panel, quality_panels
from triarch.report.page import render_report
from triarch.scaling.tables.table import Table

HOSTILE = 'a"><script>alert(1)</script>$x$'


def suite_rows(models=("red", HOSTILE)):
    rows = []
    for i, model in enumerate(models):
        facts = {
            "model": model,
            "architecture": ("encoder-decoder", "encoder-only")[i],
            "num_params": 1000 * (i + 1),
            "forward_flops_paper": 1e6,
            "forward_flops_train": 5e5,
            "scoring": ("paired", "pseudo_likelihood")[i],
        }
        for average, source, domain, loss in (
            ("domain", "web", "c4", 3.25),
            ("micro", "web", "", 3.25),
            ("macro_sources", "", "", 3.5 + i),
        ):
            rows.append(facts | dict(average=average, source=source, domain=domain, nats_per_token=loss))
    return [row | {"standard_error": 0.125 if row["average"] != "domain" else ""} for row in rows]


def length_rows():
    rows = []
    for model, prefix in (("red", 1), ("red", 4), ("enc", "")):
        for length in (8, 12, 16):
            facts = {"model": model, "scoring": "paired" if prefix else "pseudo_likelihood", "trained_length": 8}
            loss = length / 4 + (prefix or 0)
            rows.append(facts | dict(prefix=prefix, length=length, nats_per_token=loss, standard_error=0.1))
    return rows


def head_rows():
    rng = np.random.default_rng(0)
    return [
        dict(
            model=model, kind=kind, layer=layer, head=head, entropy=float(rng.uniform()), uniform_entropy=2.0,
            effective_rank=float(rng.uniform(2, 6)), full_rank=8, uniform_rank=1.5,
        )
        for model, kind in (("red", "encoder"), ("red", "cross"), (HOSTILE, "decoder"))
        for layer in range(2)
        for head in range(2)
    ]  # fmt: skip


def place_rows(column):
    return [
        {"model": "red", "kind": "encoder", "layer": layer, "position": place, column: 0.1 * layer + place / 100}
        for layer in range(2)
        for place in range(5)
    ]


def map_rows():
    return [
        {"layer": layer, "head": head, "query": i} | {f"key_{k}": float(w) for k, w in enumerate(row)}
        for layer in range(2)
        for head in (0, 2)
        for i, row in enumerate(causal(layer + head))
    ]


def causal(power):
    """Returns attention that rises with the place of the key."""
    rising = np.tril(np.arange(1.0, 4.0) ** power)
    return rising / rising.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("analysis") / "study", sizes={"1m": 1e6, "4m": 4e6})
    (folder / "analysis").mkdir()
    tables = {
        "suite.csv": suite_rows(),
        "extrapolation.csv": length_rows(),
        "positions.csv": [row | {"first": row["length"], "last": row["length"] + 2} for row in length_rows()[:6]],
        "attention.csv": head_rows(),
        "locality.csv": place_rows("locality"),
        "keys.csv": place_rows("mass"),
        f"map-{HOSTILE.replace('/', '')}-decoder.csv": map_rows(),
    }
    for name, rows in tables.items():
        write_table(folder / "analysis" / name, rows)
    return folder


@pytest.mark.slow
def test_everything_that_is_there_is_shown_and_escaped(study):
    report = render_report(study, bootstraps=0)
    page = Page(report.html)
    names = [panel.name for panel in report.panels]
    assert [name for name in names if name.startswith(("suite", "extra", "loss-by", "attention"))] == [
        "suite-num-params", "suite-forward-flops-paper", "suite-forward-flops-train",
        "extrapolation", "loss-by-position",
        "attention-locality", "attention-rank", "attention-entropy", "attention-keys",
    ]  # fmt: skip
    assert len(names[-1]) > 10 and set(names[-1]) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.$")
    assert sum(tag == "svg" for tag, _ in page.elements) == len(names)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) and "suite" in ids
    assert "<script>alert" not in report.html and "alert(1)" in "".join(page.text)
    text = " ".join("".join(page.text).split())
    assert "3.2500 ± \N{EN DASH}" in text and "4.5000 ± 0.1250" in text and "every source alike" in text
    assert "http" not in report.html.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_a_study_without_analysis_is_as_before(tmp_path):
    folder = write_study(tmp_path / "study", sizes={"1m": 1e6, "4m": 4e6})
    report = render_report(folder, bootstraps=0)
    assert 'id="suite"' not in report.html and not any("attention" in panel.name for panel in report.panels)
    assert suite_table(folder) is None


def test_a_table_that_lacks_a_column_is_named(study, tmp_path):
    folder = write_study(tmp_path / "study", sizes={"1m": 1e6, "4m": 4e6})
    (folder / "analysis").mkdir()
    rows = [{key: value for key, value in row.items() if key != "length"} for row in length_rows()]
    write_table(folder / "analysis" / "extrapolation.csv", rows)
    with pytest.raises(UserError, match=r"extrapolation.csv: no column 'length'"):
        render_report(folder, bootstraps=0)


def test_lines_are_the_tables_numbers():
    axes = extrapolation_panel(Table.from_rows(length_rows())).figure.axes[0]
    lines = {line.get_label(): line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")}
    assert set(lines) == {"red, prefix 1", "red, prefix 4", "enc (pseudo-likelihood)"}
    np.testing.assert_allclose(lines["red, prefix 4"], [[8, 6], [12, 7], [16, 8]])
    rank = depth_panel(Table.from_rows(head_rows()), "n", "t", "effective_rank", "full_rank", "uniform_rank")
    means = {line.get_label(): line.get_ydata() for line in rank.figure.axes[0].lines}
    own = [row["effective_rank"] / 8 for row in head_rows() if row["kind"] == "cross"]
    np.testing.assert_allclose(means["red, cross-attention"], np.reshape(own, (2, 2)).mean(1))
    along = along_panel(Table.from_rows(place_rows("mass")), "n", "t", "mass").figure.axes[0]
    (mean,) = [line for line in along.lines if line.get_label() == "red, encoder"]
    np.testing.assert_allclose(mean.get_ydata(), 0.05 + np.arange(5) / 100)


def test_maps_are_the_matrices():
    panel = map_panel(Table.from_rows(map_rows()), "map-red-decoder")
    pictures = [axes.images[0].get_array() for axes in panel.figure.axes]
    for picture, power in zip(pictures, (0, 2, 1, 3), strict=True):
        np.testing.assert_allclose(picture, causal(power), rtol=1e-6)


def test_quality_is_the_mean_over_sources():
    panels = quality_panels(Table.from_rows(suite_rows()))
    assert [panel.name for panel in panels] == [
        "suite-num-params", "suite-forward-flops-paper", "suite-forward-flops-train",
    ]  # fmt: skip
    points = [container.lines[0].get_xydata() for container in panels[0].figure.axes[0].containers]
    np.testing.assert_allclose(np.concatenate(points), [[1000, 3.5], [2000, 4.5]])
    only_native = [row | {"scoring": "native"} for row in suite_rows()]
    assert quality_panels(Table.from_rows(only_native)) == []


def test_large_maps_keep_their_mass():
    weights = np.random.default_rng(0).uniform(size=(7, 10))
    weights /= weights.sum(1, keepdims=True)
    rows = [
        {"layer": 0, "head": 0, "query": i} | {f"key_{k}": w for k, w in enumerate(row)}
        for i, row in enumerate(weights)
    ]
    picture = np.asarray(map_panel(Table.from_rows(rows), "map", 3).figure.axes[0].images[0].get_array())
    stretches = [weights[0:2], weights[2:4], weights[4:7]]
    wanted = [[part[:, a:b].sum(1).mean() for a, b in ((0, 3), (3, 6), (6, 10))] for part in stretches]
    np.testing.assert_allclose(picture, wanted, rtol=6e-3)
    np.testing.assert_allclose(picture.sum(1), 1, rtol=6e-3)

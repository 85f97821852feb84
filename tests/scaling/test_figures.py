"""Figures: the numbers they draw, and SVG that is repeatable, self-contained and takes the page's colours."""

import csv
import io
import re
import xml.etree.ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triarch.errors import UserError
from triarch.scaling.figures import panels as figures
from triarch.scaling.figures import style
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.chinchilla import fit_chinchilla
from triarch.scaling.laws.power import fit_power


def curves():
    x = np.geomspace(1e4, 1e7, 50)
    return [
        figures.Curve("small", "A", x, 3 + 30 * x**-0.3),
        figures.Curve("large", "A", 4 * x, 2.5 + 80 * x**-0.3),
        figures.Curve("small", "B", 2 * x, 2.8 + 40 * x**-0.3),
    ]


def scaling_panel(label="A <&> B"):
    x = np.array([1e6, 4e6, 1.6e7, 6.4e7])
    loss = 20 * x**-0.15 + 0.5
    fit = fit_power(x, loss * [1.001, 0.999, 1.001, 0.999], FitOptions(bootstraps=20))
    series = figures.Series(label, ["a", "b", "c", "d"], x, loss, np.array([0.01, 0.02, np.nan, 0.01]), fit)
    other = figures.Series("C", ["e"], x[:1], loss[:1] + 0.2, np.array([np.nan]), None, "pseudo-likelihood")
    return figures.scaling_panel("panel", "Loss & size", [series, None, other], "parameters", powers=False)


NAMES = ["panel", "training", "frontier", "law", "parametric"]


def draw_all():
    params, tokens = np.geomspace(1e7, 1e9, 12), np.geomspace(1e9, 1e11, 12)[::-1]
    loss = 1.7 + 400 / params**0.34 + 410 / tokens**0.28
    parametric = fit_chinchilla(params, tokens, loss, FitOptions(bootstraps=0))
    power = fit_power(params, 30 * params**-0.2 + 1, FitOptions(bootstraps=10))
    return [
        scaling_panel(),
        figures.training_panel("training", "A", curves()[:2], 0, "tokens"),
        figures.frontier_panel("frontier", "Compute", curves(), ["A", "B"], "FLOPs"),
        figures.law_panel("law", "Law", power, params, 30 * params**-0.2 + 1),
        figures.parametric_panel("parametric", "Law", parametric, params, tokens, loss),
    ]


@pytest.fixture(scope="module")
def panels():
    return {panel.name: panel for panel in draw_all()}


@pytest.fixture(scope="module")
def drawn_again():
    return {panel.name: panel for panel in draw_all()}


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(-5, 5), min_size=1, max_size=60), share=st.floats(0.01, 0.4))
def test_smoothing_is_a_symmetric_mean(values, share):
    smoothed = figures.smooth(np.array(values), share)
    reach = max(1, int(share * len(values)))
    for i in range(len(values)):
        half = min(i, len(values) - 1 - i, reach)
        assert smoothed[i] == pytest.approx(np.mean(values[i - half : i + half + 1]), abs=1e-9)


def test_smoothing_leaves_a_straight_line_alone():
    line = np.linspace(5, 2, 101)
    np.testing.assert_allclose(figures.smooth(line, 0.1), line, rtol=1e-12)


def test_thinning_keeps_both_ends_and_the_order():
    x = np.arange(1, 10_001)
    kept = figures.thin(x, 100)
    assert kept[0] == 0 and kept[-1] == 9999 and len(kept) <= 100 and np.all(np.diff(kept) > 0)
    np.testing.assert_array_equal(figures.thin(x[:50], 100), np.arange(50))


def test_frontier_is_the_least_loss_reached_by_each_compute():
    drawn = curves()
    x, loss = figures.frontier(drawn, points=300)
    assert np.all(np.diff(loss) <= 0)
    for at, reached in zip(x[::29], loss[::29], strict=True):
        # Curves fall, so that the least reached is the last passed; interpolated within a step.
        expected = min(float(np.interp(np.log(at), np.log(c.x), c.loss)) for c in drawn if c.x[0] <= at * (1 + 1e-9))
        assert reached == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_svg_is_repeatable_well_formed_and_self_contained(panels, drawn_again, name):
    svg = panels[name].svg()
    assert svg == drawn_again[name].svg()
    xml.etree.ElementTree.fromstring(svg)
    without_namespace = svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "http" not in without_namespace and "<script" not in svg and "<metadata" not in svg
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', svg):
        assert target in ids


def test_every_colour_follows_the_page(panels):
    for panel in panels.values():
        bare = re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", panel.svg())
        colours = set(re.findall(r"#[0-9a-fA-F]{6}\b", bare))
        assert not colours, panel.name


def test_ids_of_two_panels_never_meet(panels):
    first, second = (set(re.findall(r'\bid="([^"]+)"', panels[name].svg())) for name in NAMES[:2])
    assert not first & second


def test_labels_and_tips_are_escaped():
    svg = scaling_panel("<b>bold</b>").svg()
    assert "<b>" not in svg and "&lt;b&gt;" in svg
    assert 'aria-label="Loss &amp; size"' in svg
    assert re.search(r"<title>a: [\d.]+ nats/token at 1M</title>", svg)


def test_dollar_signs_are_text():
    assert "5$_{x" in scaling_panel("5$_{x").svg()


def test_csv_holds_the_points_drawn(tmp_path):
    panel = scaling_panel('quoted "A", B')
    rows = list(csv.reader(io.StringIO(panel.csv())))
    assert rows[0] == ["family", "run", "parameters", "nats_per_token", "standard_error"]
    assert rows[1][:3] == ['quoted "A", B', "a", "1000000"] and float(rows[1][3]) == pytest.approx(
        20 * 1e6**-0.15 + 0.5
    )
    assert len(rows) == 6
    assert panel.save(tmp_path / "data.csv").read_text() == panel.csv()


def test_saving(tmp_path):
    panel = scaling_panel()
    assert panel.save(tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert panel.save(tmp_path / "p.svg").read_text().startswith("<svg")
    assert panel.save(tmp_path / "p.pdf").read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.pdf", "p.png", "p.svg"]
    with pytest.raises(UserError, match=r"\.svg, \.pdf or \.png"):
        panel.save(tmp_path / "p.gif")
    with pytest.raises(UserError, match="cannot be written"):
        panel.save(tmp_path / "missing" / "p.svg")


def relative_luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_dark_series_stand_out_from_a_dark_page():
    # WCAG 2.1 asks 3:1 of graphical objects.
    page = relative_luminance("#161a20")
    for colour in style.SERIES_DARK:
        assert (relative_luminance(colour) + 0.05) / (page + 0.05) > 4.5
    for colour in style.SERIES:
        assert 1.05 / (relative_luminance(colour) + 0.05) > 2.2

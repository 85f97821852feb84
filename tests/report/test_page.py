"""The page: everything there, everything escaped, nothing fetched, and findings that follow from the tables."""

import base64
import gzip
import html.parser
import json
import math
import re
import shutil
import time

import pytest
from plotly.offline import get_plotlyjs

from tests.report.browser import opened
from tests.report.study_folder import ERROR, SHIFT, SIZES, loss_of, read_table, write_study, write_table
from triarch.errors import UserError
from triarch.report.analysis import family_laws
from triarch.report.explorer import packed_plotly
from triarch.report.findings import findings
from triarch.report.page import render_report, write_report
from triarch.report.study import read_study

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(html.parser.HTMLParser):
    """Collects tags and attributes and checks that every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("report") / "study")


@pytest.fixture(scope="module")
def report(folder):
    return render_report(folder, bootstraps=50)


@pytest.fixture(scope="module")
def page(report):
    return Page(report.html)


def test_every_section_and_figure_is_there(report, page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for wanted in ("findings", "figures", "explorer", "evaluations", "costs", "laws", "commands", "configs"):
        assert wanted in ids
        assert any(tag == "a" and attributes.get("href") == f"#{wanted}" for tag, attributes in page.elements)
    names = [panel.name for panel in report.panels]
    axes = ("num-params", "num-params-non-embedding", "flops-paper", "flops-train")
    assert names == [
        *(f"training-{i}" for i in range(3)),
        *(f"{axis}-{corpus}{scoring}" for axis in axes for corpus in ("code", "prose")
          for scoring in ("", "-pseudo-likelihood")),
        *(f"frontier-{convention}-{architecture}" for convention in ("paper", "train")
          for architecture in ("encoder-decoder", "decoder-only", "encoder-only")),
    ]  # fmt: skip
    assert sum(tag == "svg" for tag, _ in page.elements) == len(names)
    text = "".join(page.text)
    assert "triarch sweep --study=small.gin" in text and "two cores" in text and "Which architecture is better?" in text
    assert text.count("ModelConfig.architecture = ") == 9


def test_what_sees_both_sides_of_a_token_has_figures_of_its_own(report, page):
    drawn = {panel.name: {str(row[0]) for row in panel.rows} for panel in report.panels}
    assert drawn["num-params-code"] == {"RedLLM", "DecLLM"}
    assert drawn["num-params-code-pseudo-likelihood"] == {"ettin_encoder"}
    captions = {panel.name: panel.caption for panel in report.panels}
    assert captions["num-params-code"] == "RedLLM, DecLLM on code (in-domain), the same targets after the same prefix"
    text = "".join(page.text)
    assert all(caption and caption in text for caption in captions.values())


def test_bands_hold_their_lines(tmp_path):
    folder = write_study(tmp_path / "study", {f"{i}m": 1e6 * i for i in (1, 2, 4, 8)}, ("decllm",))
    for law in family_laws(read_study(folder), bootstraps=20, seed=0):
        low, high = law.fit.band(law.x)
        assert (low <= law.fit.predict(law.x)).all() and (law.fit.predict(law.x) <= high).all()


def test_nothing_is_fetched(report, page):
    ours = report.html.replace(packed_plotly(), "")
    assert "http" not in ours.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "@import" not in report.html
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed", "img"), tag
        for name in ("src", "href", "xlink:href", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)


def test_tables_hold_the_tables(page, folder):
    text = "".join(page.text)
    for row in read_table(folder / "evaluations.csv"):
        assert f"{float(row['nats_per_token']):.4f}" in text
        assert f"{float(row['bits_per_byte']):.4f}" in text and f"{float(row['perplexity']):.2f}" in text
    for row in read_table(folder / "results.csv"):
        assert f"{int(row['num_params']):,}" in text
    sortable = [attributes for tag, attributes in page.elements if tag == "table"]
    assert len(sortable) == 4 and all(attributes["class"] == "sortable" for attributes in sortable)
    values = [
        float(attributes["data-value"])
        for tag, attributes in page.elements
        if tag == "td" and "data-value" in attributes
    ]
    assert any(value == pytest.approx(loss_of("redllm", 4e6)) for value in values)


def test_findings_follow_from_the_numbers(report):
    text = "\n".join(report.findings)
    largest = SIZES["16m"]
    gap = loss_of("redllm", largest) - loss_of("decllm", largest)
    assert f"DecLLM leads on code (in-domain) by {gap:.3f} nats per token." in text
    assert f"DecLLM 16m {loss_of('decllm', largest):.3f} ± {ERROR:.3f}" in text
    # The laws are exact: at equal parameters the gap is that of the losses; DecLLM spends twice the FLOPs a parameter.
    assert f"At equal size the laws put DecLLM {gap:.3f} nats per token below RedLLM." in text
    flops = 1.6e7 * 4e5
    at_equal_compute = loss_of("decllm", flops / 4e5 / 2) - loss_of("redllm", flops / 4e5)
    assert f"At equal compute the laws put RedLLM {at_equal_compute:.3f} nats per token below DecLLM." in text
    assert "0.200 for RedLLM" in text and "0.220 for ettin_encoder" in text  # Three sizes have no interval.
    assert f"Leaving the training domain for prose costs {SHIFT:.3f} to {SHIFT:.3f} nats per token." in text
    assert "ettin_encoder 16m scores" in text and "not comparable" in text
    assert "spent 2.00 times the FLOPs of RedLLM 16m" in text


def test_laws_say_that_three_sizes_do_not_identify_an_offset(report):
    assert len(report.laws) == 24
    assert all(law["parameters"]["E"] == 0.0 for law in report.laws)
    assert "The offset E is not identified" in report.html.replace("THE", "The")
    exact = next(
        law for law in report.laws if (law["family"], law["role"], law["axis"]) == ("decllm", "in_domain", "num_params")
    )
    assert exact["parameters"]["alpha"] == pytest.approx(0.20, rel=1e-6)
    json.dumps(report.laws, allow_nan=False)


def test_a_difference_within_its_error_is_not_called_a_lead(tmp_path):
    folder = write_study(tmp_path / "study")
    rows = [row | {"standard_error": 1.0} for row in read_table(folder / "evaluations.csv")]
    write_table(folder / "evaluations.csv", rows)
    study = read_study(folder)
    sentences = "\n".join(map(str, findings(study, family_laws(study, bootstraps=0, seed=0))))
    assert (
        "No difference is shown on code (in-domain) between DecLLM and RedLLM" in sentences and "leads" not in sentences
    )


def test_markup_in_names_is_text(tmp_path):
    folder = write_study(tmp_path / "study")
    evil = "<script>alert(1)<"
    for table in ("results.csv", "evaluations.csv"):
        rows = [row | {"run": row["run"].replace("redllm-1m", evil)} for row in read_table(folder / table)]
        write_table(folder / table, rows)
    (folder / "runs" / "redllm-1m").rename(folder / "runs" / evil)
    facts = json.loads((folder / "study.json").read_text())
    facts |= {"title": "</title><script>x</script>", "commands": ["</pre><img src=x>"], "question": '"><b>'}
    facts["labels"]["redllm"] = "<i>Red</i>"
    (folder / "study.json").write_text(json.dumps(facts))
    (folder / "runs" / "decllm-1m" / "config.gin").write_text("</details></pre><script>y</script>")
    page = Page(render_report(folder, bootstraps=0).html)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 3 and "img" not in tags and "b" not in tags and "i" not in tags
    text = "".join(page.text)
    assert evil in text and "<i>Red</i>" in text and "</details></pre><script>y</script>" in text


def test_the_same_study_gives_the_same_bytes(folder, report):
    assert render_report(folder, bootstraps=50).html == report.html


def test_unfinished_runs_are_named_and_left_out(tmp_path):
    folder = write_study(tmp_path / "study")
    rows = read_table(folder / "results.csv")
    rows[0] |= {"status": "failed", "final_train_loss": ""}
    write_table(folder / "results.csv", rows)
    evaluations = [row for row in read_table(folder / "evaluations.csv") if row["run"] != "redllm-1m"]
    write_table(folder / "evaluations.csv", evaluations)
    report = render_report(folder, bootstraps=0)
    assert "redllm-1m (failed)" in report.findings[-1]
    assert next(law for law in report.laws if law["family"] == "redllm")["num_points"] == 2


@pytest.mark.parametrize("sizes", [{"1m": 1e6}, {"1m": 1e6, "4m": 4e6}])
def test_few_sizes_still_make_a_page(tmp_path, sizes):
    report = render_report(write_study(tmp_path / "study", sizes, ("redllm", "decllm")), bootstraps=20)
    Page(report.html)
    assert len(report.laws) == (0 if len(sizes) == 1 else 16)
    assert ("a law needs at least two sizes" in report.html.lower()) == (len(sizes) == 1)


def test_one_family_without_out_of_domain_scores(tmp_path):
    folder = write_study(tmp_path / "study", families=("decllm",))
    rows = [row for row in read_table(folder / "evaluations.csv") if row["role"] == "in_domain"]
    write_table(folder / "evaluations.csv", rows)
    report = render_report(folder, bootstraps=0)
    Page(report.html)
    assert "Nothing was scored out-of-domain" in report.html
    assert not any("prose" in panel.name for panel in report.panels)


def test_scores_without_standard_errors(tmp_path):
    folder = write_study(tmp_path / "study")
    rows = [row | {"standard_error": "", "bits_per_byte": ""} for row in read_table(folder / "evaluations.csv")]
    write_table(folder / "evaluations.csv", rows)
    report = render_report(folder, bootstraps=0)
    assert "nan" not in "".join(Page(report.html).text).lower().replace("finan", "")
    assert math.isfinite(report.laws[0]["parameters"]["alpha"])


def test_writing_leaves_one_whole_file_and_the_figures_if_asked(tmp_path, folder):
    output = tmp_path / "new" / "report.html"
    small = write_study(tmp_path / "study", families=("decllm",), sizes={"1m": 1e6})
    report = write_report(small, output, bootstraps=0, figures_folder=tmp_path / "figures")
    assert output.read_text(encoding="utf-8") == report.html
    assert [path.name for path in output.parent.iterdir()] == ["report.html"]
    assert len(list((tmp_path / "figures").iterdir())) == 3 * len(report.panels)
    with pytest.raises(UserError, match=r"ends in \.html"):
        write_report(folder, tmp_path / "report.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        write_report(folder, tmp_path / "file" / "report.html", bootstraps=0)


def test_page_fits_dark_paper_and_phone(report):
    for rule in ("prefers-color-scheme: dark", "@media print", "overflow-x: auto", "width=device-width"):
        assert rule in report.html
    dark = re.findall(r"--series-1: (#\w+)", report.html)
    assert len(dark) == 2 and dark[0] != dark[1]


def test_the_explorer_holds_every_run(page, folder, report):
    start = report.html.index('id="explorer-data">') + len('id="explorer-data">')
    told = json.loads(report.html[start : report.html.index("</script>", start)])
    rows = read_table(folder / "results.csv")
    names = [run["name"] for family in told["runs"] for run in family]
    assert sorted(names) == sorted(row["run"] for row in rows)
    column = told["columns"].index("parameters")
    values = {run["name"]: run["values"][column] for family in told["runs"] for run in family}
    assert values == {row["run"]: float(row["num_params"]) for row in rows}


def test_plotly_travels_whole():
    packed = gzip.decompress(base64.b64decode(packed_plotly())).decode()
    assert packed == get_plotlyjs() and "</script" not in packed_plotly()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_a_browser_draws_the_explorer_offline(report, tmp_path):
    """The figure is drawn when it is in view: its marks are in the page that a browser has made."""
    path = tmp_path / "report.html"
    path.write_text(report.html)
    shown = """{
      const plot = document.getElementById("explorer-plot");
      plot?.scrollIntoView();
      plot?.innerHTML ?? "";
    }"""
    with opened(path, tmp_path / "profile", seconds=150) as evaluate:
        deadline = time.monotonic() + 100
        while (plot := evaluate(shown)).count('class="point"') != 9 and time.monotonic() < deadline:
            time.sleep(0.2)
    assert plot.count('class="point"') == 9 and "RedLLM" in plot


def test_a_run_of_several_segments_is_told(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "study")
    config = next((copy / "runs").glob("*/config.gin"))
    config.write_text("# from step 0 on: as begun\n# from step 60 on: batch_size: 8 -> 16\n" + config.read_text())
    page = render_report(copy, bootstraps=2).html
    assert "Trained in 2 segments: from step 0 on: as begun, from step 60 on: batch_size: 8" in page
    assert f"<small>({config.parent.name})</small>" in page

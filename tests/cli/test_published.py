"""The table of published sizes: complete, and each count that of its gin file."""

import json

from triarch.cli import main
from triarch.cli.gin import files as gin_files
from triarch.cli.views import published


def test_every_count_is_the_published_one():
    assert [row["model"] for row in published.table() if not row["agree"]] == []


def test_the_table_names_every_size_but_our_own():
    folder = gin_files.config_folder() / "models"
    sizes = {f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.gin")}
    own = {name for name in sizes if name.endswith("/family") or "/laptop_" in name or "/tiny_" in name}
    # RetNet's paper (arXiv 2307.08621) gives widths and depths, and no exact totals.
    without_counts = {name for name in sizes if name.startswith("retnet/")}
    assert sizes - own - without_counts == set(published.COUNTS)


def test_a_number_published_rounded_is_compared_as_rounded(monkeypatch):
    for count, agrees in ((1_240_000_000, True), (1_250_000_000, False), (1_241_761_793, False)):
        monkeypatch.setattr(published, "COUNTS", {"t5gemma/large": count})
        assert published.table()[0]["agree"] is agrees
        assert ("DIFFERS" in published.lines(published.table())[1]) is not agrees


def test_the_command_prints_it(tmp_path, capsys):
    assert main.main(["describe", "--published", f"--json={tmp_path / 'table.json'}"]) == 0
    assert f"{len(published.COUNTS)} of {len(published.COUNTS)} agree" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "table.json").read_text())["models"]) == len(published.COUNTS)

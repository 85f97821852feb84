"""The documentation names files that are there, and the README is the way into it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Pages that `make docs` makes.
_GENERATED = {"cli.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target and target not in _GENERATED:
            assert (page.parent / target).exists(), target


def test_the_readme_leads_to_every_guide():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 80
    for page in (ROOT / "docs").glob("*.md"):
        if page.name not in ("api.md", "index.md"):
            assert f"docs/{page.name}" in readme, page.name


def test_the_site_has_every_page():
    nav = (ROOT / "mkdocs.yml").read_text()
    assert all(f" {page.name}\n" in nav for page in (ROOT / "docs").glob("*.md"))
    assert all(f"notebooks/{path.stem}.md" in nav for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_walks_through_the_code_name_files_that_are_there():
    text = (ROOT / "docs" / "architecture.md").read_text()
    walks = re.findall(r"^### [^\n]* \((\d+) files\)$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(walks) == 4
    for count, walk in walks:
        files = re.findall(r"`([\w/]+\.py)`", walk)
        assert len(files) == len(set(files)) == int(count)
    named = set(re.findall(r"`((?:[\w]+/)+[\w]+\.py|loading\.py)`", text))
    missing = [file for file in named if not (ROOT / "src" / "triarch" / file).exists()]
    assert not missing

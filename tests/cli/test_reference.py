"""The documentation of the command line is made of the parsers."""

from __future__ import annotations

from triarch.cli import reference
from triarch.cli.main import VERBS, parser_of


def test_the_page_has_every_flag_of_every_verb(monkeypatch):
    page = reference.page()
    sections = dict(zip(VERBS, page.split("\n## ")[1:], strict=True))
    for verb, section in sections.items():
        assert section.startswith(f"{verb}\n")
        _, parser = parser_of(verb)
        assert all(option in section for action in parser._actions for option in action.option_strings)
    monkeypatch.setenv("COLUMNS", "40")
    assert reference.page() == page

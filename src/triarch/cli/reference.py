"""The command line as a page of the documentation: what `triarch VERB --help` prints of every verb."""

from __future__ import annotations

import argparse

from triarch.cli.main import VERBS, parser_of

_WIDTH = 100
_INTRODUCTION = """# The command line

What `triarch VERB --help` prints of every verb, generated from the parsers themselves. All verbs take `--gin_file` and
`--gin.NAME` where a run is described ([all keys](gin_keys.md)), `--module` ([extending](extending.md)), `--json` and
`--debug`; [exit statuses](trust.md#how-a-command-ends) are the same for all.
"""


def page() -> str:
    """Returns the page, Markdown."""
    contents = "\n".join(f"- [`{verb}`](#{verb}): {does}" for verb, does in VERBS.items())
    return "\n".join([_INTRODUCTION, contents, *(_section(verb) for verb in VERBS)])


def _section(verb: str) -> str:
    _, parser = parser_of(verb)
    parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=_WIDTH)
    return f"\n## {verb}\n\n```text\n{parser.format_help().rstrip()}\n```\n"

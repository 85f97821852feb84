"""`triarch report` as a person types it."""

import argparse
import json

import pytest

from tests.report.study_folder import write_study
from triarch.cli.verbs import report
from triarch.errors import UserError


def run(*argv):
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    return report.run(parser.parse_args(list(argv)))


def test_writes_the_page_and_names_it(tmp_path, capsys):
    study, output = write_study(tmp_path / "study"), tmp_path / "report.html"
    result = run(f"--study={study}", f"--output={output}", "--bootstraps=0")
    assert output.read_text().startswith("<!doctype html>")
    assert result["output"] == str(output) and len(result["laws"]) == 24
    json.dumps(result, allow_nan=False)
    printed = capsys.readouterr().out
    assert str(output) in printed and result["findings"][0] in printed


def test_a_missing_study_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such study folder"):
        run(f"--study={tmp_path / 'none'}", f"--output={tmp_path / 'report.html'}")

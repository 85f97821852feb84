"""What the wheel holds, and what releases say of themselves."""

from __future__ import annotations

import os
import re

import setuptools  # Before distutils, which it provides.

from tests.wheel.contents import ROOT, expected
from triarch.version import __version__


def test_the_wheel_holds_every_file_of_the_package(monkeypatch):
    from distutils.core import run_setup

    assert setuptools.__version__
    monkeypatch.chdir(ROOT)
    command = run_setup("setup.py", stop_after="init").get_command_obj("build_py")
    command.ensure_finalized()
    held = {os.path.relpath(path, command.build_lib) for path in command.get_outputs(include_bytecode=False)}
    assert not expected() - held


def test_the_version_is_that_of_the_newest_release():
    releases = re.findall(
        r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert releases[0] == __version__
    assert releases == sorted(releases, key=lambda text: tuple(map(int, text.split("."))), reverse=True)
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()

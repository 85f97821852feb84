"""Each mistake of the table is answered by one line and a status; nothing is left behind, and nothing hangs."""

from __future__ import annotations

import collections
import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bad_input import (
    command_line,
    exports,
    fit_tables,
    generation,
    gin_text,
    huggingface_folders,
    model_values,
    paths,
    reports,
    runs,
    stores,
    studies,
    text_files,
    tokenizers,
)
from tests.bad_input.case import Case, Folder
from tests.bad_input.known import DANGEROUS, KNOWN
from tests.bounds import bounded
from triarch.cli.main import main

# Those that need TensorFlow come last: before them it can be told whether a case loads it without need.
AREAS = (
    *(command_line, model_values, gin_text, stores, runs, exports, huggingface_folders, tokenizers),
    *(fit_tables, studies, reports, generation, paths, text_files),
)
CASES = sorted((case for area in AREAS for case in area.cases()), key=lambda case: case.tensorflow)
SECONDS = 20
MEMORY = 2**32
MOST_CHARACTERS = 300
EVERY = 32


def marked(cases):
    xfail = {name: pytest.mark.xfail(reason=reason, strict=False) for name, reason in KNOWN.items()}
    xfail |= {name: pytest.mark.xfail(reason=reason, run=False) for name, reason in DANGEROUS.items()}
    return [pytest.param(case, id=case.name, marks=[xfail[case.name]] if case.name in xfail else []) for case in cases]


def contents(folder: Path) -> dict[str, tuple]:
    """Returns what lies below a folder: kind, and what files hold and links point to."""
    found = {}
    for path in folder.rglob("*"):
        facts = path.lstat()
        held = os.readlink(path) if path.is_symlink() else ""
        if stat.S_ISREG(facts.st_mode):
            held = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(folder))] = (stat.S_IFMT(facts.st_mode), held)
    return found


def check(case: Case, status: int | None, shown: str, before: dict, after: dict) -> None:
    assert status in (1, 2), f"status {status}: {shown}"
    lines = shown.splitlines()
    assert len(lines) == 1, f"{len(lines)} lines: {shown[-3000:]}"
    verb = f" {case.argv[0]}" if "error: no verb" not in shown else ""
    assert shown.startswith(f"triarch{verb}: error: "), shown
    given = len(str(Path.cwd())) + max(map(len, case.argv))
    assert len(shown) <= MOST_CHARACTERS + given, f"{len(shown)} characters: {shown}"
    for text in case.says:
        assert text in shown, f"no {text!r} in: {shown}"
    assert after == before, f"left behind: {sorted(set(after.items()) ^ set(before.items()))}"


@pytest.fixture
def folder(tmp_path, samples, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return Folder(here, samples)


def test_the_table_is_large_and_every_case_has_a_name_of_its_own():
    counts = collections.Counter(case.name for case in CASES)
    assert [name for name, count in counts.items() if count > 1] == []
    assert len(CASES) >= 700
    assert [name for name in (*KNOWN, *DANGEROUS) if name not in counts] == []


@pytest.mark.parametrize("case", marked(CASES))
def test_one_line(case, folder, monkeypatch, capfd):
    case.make(folder)
    before = contents(folder.path)
    had_tensorflow = "tensorflow" in sys.modules
    handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE)}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    capfd.readouterr()
    try:
        with bounded(SECONDS, MEMORY):
            status = main(case.argv)
    except SystemExit as exit:
        status = exit.code
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
    check(case, status, capfd.readouterr().err, before, contents(folder.path))
    assert had_tensorflow or case.tensorflow or "tensorflow" not in sys.modules


@pytest.mark.slow
@pytest.mark.parametrize("case", marked(CASES[EVERY // 2 :: EVERY]))
def test_one_line_of_the_command(case, folder):
    case.make(folder)
    before = contents(folder.path)
    command = [str(Path(sys.executable).with_name("triarch")), *case.argv]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=6 * SECONDS)
    assert b"Traceback" not in done.stdout
    check(case, done.returncode, done.stderr.decode(errors="replace"), before, contents(folder.path))

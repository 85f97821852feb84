"""What ends a verb early: one line, the right status, and the traceback of what is triarch's own fault in a file."""

import errno
import json
import math
import os
import re
from pathlib import Path

import pytest

from triarch import temporary
from triarch.cli.main import main
from triarch.cli.verbs import describe
from triarch.errors import Stopped, UserError
from triarch.temporary import temporary_path

VERB = ["describe", "--gin_file=models/redllm/1b.gin"]


def fail_with(monkeypatch, error):
    def run(args):
        raise error

    monkeypatch.setattr(describe, "run", run)


class XlaRuntimeError(RuntimeError):
    """As jaxlib's."""


EXPECTED = {
    "bad input": (UserError("a.csv, row 3: no number"), 1, "a.csv, row 3: no number"),
    "folder": (IsADirectoryError(errno.EISDIR, "Is a directory", "a/metrics.jsonl"), 1, "a/metrics.jsonl: Is a dir"),
    "long name": (OSError(errno.ENAMETOOLONG, "File name too long", "xxx"), 1, "xxx: File name too long"),
    "links": (OSError(errno.ELOOP, "Too many levels of symbolic links", "a"), 1, "a: Too many levels"),
    "two paths": (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), 1, "a -> b: Invalid"),
    "full disk": (OSError(errno.ENOSPC, "No space left on device", Path("a")), 1, "a: the disk is full ("),
    "no path": (TimeoutError("timed out"), 1, "timed out"),
    "memory": (MemoryError(), 1, "out of memory; this machine has"),
    "numpy": (
        MemoryError("Unable to allocate 7.28 TiB for an array with shape (1, 2)"),
        1,
        "out of memory: 7.3 TiB more",
    ),
    "C++": (RuntimeError("std::bad_alloc"), 1, "out of memory; this"),
    "XLA": (
        XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes.\nmore\nlines"),
        1,
        "out of memory: 8.0 GiB more were asked for at once",
    ),
    "GPU": (
        XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1.50GiB."),
        1,
        "out of memory: 1.5 GiB more",
    ),
    "interrupted": (KeyboardInterrupt(), 130, "interrupted"),
    "terminated": (Stopped(15), 143, "terminated"),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_one_line_and_the_status(kind, monkeypatch, capsys):
    error, status, text = EXPECTED[kind]
    fail_with(monkeypatch, error)
    assert main(VERB) == status
    said = capsys.readouterr().err
    assert said.startswith(f"triarch describe: error: {text}") and said.count("\n") == 1


def test_a_long_message_is_cut(monkeypatch, capsys):
    fail_with(monkeypatch, UserError("x" * 30_000))
    assert main(VERB) == 1
    assert len(capsys.readouterr().err) < 1100


def test_the_unforeseen_is_a_fault_of_triarch(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    error = ZeroDivisionError("by\nzero")
    error.add_note("\n----\nA library's note, of several lines.")
    error.add_note("the newest checkpoint is that of step 7")
    fail_with(monkeypatch, error)
    assert main(VERB) == 70
    said = capsys.readouterr().err
    assert said.startswith(
        "triarch describe: this is a fault of triarch, not of your input: ZeroDivisionError: by zero;"
    )
    assert said.endswith("; the newest checkpoint is that of step 7\n") and said.count("\n") == 1
    (written,) = tmp_path.iterdir()
    assert re.search(r"the traceback is in (\S+);", said)[1] == str(written)
    text = written.read_text()
    assert "raise error" in text and "models/redllm/1b.gin" in text


@pytest.mark.parametrize("flag, environment", [(["--debug"], "0"), ([], "1")])
def test_debugging_shows_the_traceback(flag, environment, monkeypatch, capsys):
    monkeypatch.setenv("TRIARCH_DEBUG", environment)
    fail_with(monkeypatch, UserError("bad"))
    assert main([*VERB, *flag]) == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and said.endswith("triarch describe: error: bad\n")


def test_names_that_are_no_text(capsys):
    for name in (os.fsdecode(b"a\xff"), "a\0b"):
        assert main(["describe", f"--gin_file={name}"]) == 1
        said = capsys.readouterr().err
        assert "expected UTF-8" in said and said.count("\n") == 1 and said.isascii()


def test_no_flag_is_given_an_empty_value(capsys):
    assert main(["prepare", "--task=files", "--output=x", "--vocabulary="]) == 1
    assert "--vocabulary=: expected a value, or leave the flag out" in capsys.readouterr().err
    assert main(["describe"]) == 1
    assert "--gin_file is required" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        ["evaluate", "--model=m", "--in_domain="],
        ["train", "--workdir=", "--gin_file=runs/laptop.gin"],
        ["train", "--workdir", "", "--gin_file=runs/laptop.gin"],
        ["fit", "--law=power", "--csv="],
    ],
)
def test_an_empty_name_is_not_the_current_folder(flags, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(flags) == 1
    assert "=: expected a name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", ["-1", "4294967296", str(2**70), "1" + "0" * 4000])
def test_seeds_beyond_32_bits(number, capsys):
    assert main(["evaluate", "--model=m", "--in_domain=s", f"--seed={number}"]) == 1
    said = capsys.readouterr().err
    assert "--seed=" in said and "from 0 to 4294967295" in said and len(said) < 200


def test_numbers_beyond_64_bits(capsys):
    assert main(["evaluate", "--model=m", "--in_domain=s", f"--batch_size={2**70}"]) == 1
    assert "--batch_size=1180591620717411303424...: expected a number of at most 64 bits" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["missing/x.json", "", "file/x.json", "folder", "n" * 300])
def test_where_json_goes_is_checked_before_the_work(path, monkeypatch, capsys, tmp_path):
    fail_with(monkeypatch, AssertionError("begun"))
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    assert main([*VERB, f"--json={path}"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("triarch describe: error: --json=") and said.count("\n") == 1


def test_a_loop_of_links_for_json(monkeypatch, capsys, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert main([*VERB, f"--json={tmp_path}/a/x.json"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_json_has_no_word_for_infinity(monkeypatch, tmp_path):
    monkeypatch.setattr(describe, "run", lambda args: {"a": [1.5, math.inf, (math.nan,)], "b": {"c": -math.inf}})
    assert main([*VERB, f"--json={tmp_path}/x.json"]) == 0
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [1.5, None, [None]], "b": {"c": None}}


LATE = {
    "fit": ["--law=power", "--x_column=x", "--loss_column=y", "--csv=none.csv", "--output={}"],
    "import": ["none", "--output={}"],
    "export": ["--workdir=none", "--output={}"],
    "report": ["--study=none", "--output={}/page.html"],
    "sweep": ["--study=none", "--output={}"],
    "train": ["--gin_file=none.gin", "--workdir={}"],
}


@pytest.mark.parametrize("verb", LATE)
@pytest.mark.parametrize("name", ["file", "file/x", "n" * 300, "dangling", "dangling/x", "loop/x", "closed/x"])
def test_every_output_is_checked_before_the_work(verb, name, monkeypatch, capsys, tmp_path):
    """Each input is missing too, which would be told if it were looked for first."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("dangling").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    Path("closed").mkdir()
    # Root may write anywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed")
    assert main([verb, *(flag.format(name) for flag in LATE[verb])]) == 1
    said = capsys.readouterr().err
    flag = "workdir" if verb == "train" else "output"
    assert said.startswith(f"triarch {verb}: error: --{flag}=") and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["closed", "dangling", "file", "loop"]


def test_what_a_killed_process_left_of_a_result_goes_when_it_is_written_again(tmp_path, monkeypatch):
    monkeypatch.setattr(describe, "run", lambda args: {})
    left = temporary_path(tmp_path / "x.json")
    left.touch()
    monkeypatch.setattr(temporary, "_started", lambda process: None)
    assert main([*VERB, f"--json={tmp_path}/x.json"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]

"""Paths of other kinds than expected: folders, links, FIFOs, names that are too long or not UTF-8, and outputs that
cannot be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bad_input.case import Case, Folder, case
from tests.bad_input.stores import DOCUMENTS, TRAIN

LONG = "x" * 300
DEEP = "/".join(["d" * 200] * 25)
PREPARE = "prepare --task=files --vocabulary=bytes --window=32 --workers=1"
# A command whose path FILE is to be read as a file, and the samples that it needs.
READS = (
    ("describe --gin_file=FILE", ""),
    ("sweep --study=FILE --output=out", ""),
    ("fit FILE --law=power --x_column=N", ""),
    ("generate --model=export --prompts_file=FILE", "export"),
    (f"{PREPARE} --files=FILE --output=new", ""),
    (f"{PREPARE} --files=text.txt --vocabulary=FILE --output=new".replace("--vocabulary=bytes ", ""), "text.txt"),
)
# A command whose path FOLDER is to be read as a folder.
OPENS = (
    ("inspect FOLDER", ""),
    ("order FOLDER --steps=0", ""),
    ("export --workdir=FOLDER --output=e", ""),
    ("import FOLDER --output=e", ""),
    ("report --study=FOLDER --output=r.html", ""),
    ("evaluate --model=FOLDER --in_domain=store", "store"),
    ("generate --model=FOLDER --prompt=hello", ""),
)
# A command whose path OUT is to be written.
WRITES = (
    (f"{PREPARE} --files=text.txt --output=OUT", "text.txt"),
    ("train --gin_file=run.gin --workdir=OUT", "run.gin store"),
    ("export --workdir=export --output=OUT", "export"),
    ("import hf --output=OUT", "hf"),
    ("sweep --study=sweep.gin --output=OUT", "sweep.gin settings.gin"),
    ("report --study=study --output=OUT --bootstraps=0", "study"),
    ("describe --gin_file=run.gin --json=OUT", "run.gin"),
)
# A command, the samples that it needs, and files of theirs in whose place a FIFO or a folder is put.
WITHIN = (
    ("inspect store", "store", ("store/manifest.json", f"store/{TRAIN}")),
    ("order run --steps=0", "run", ("run/config.json",)),
    ("order --gin_file=run.gin --steps=0", "run.gin store", (f"store/{DOCUMENTS}",)),
    ("train --gin_file=run.gin --workdir=run", "run store run.gin", ("run/config.json", "run/metrics.jsonl")),
    ("evaluate --model=export --in_domain=store", "export store", ("export/manifest.json", "export/files.json")),
    (
        "import hf --output=e",
        "hf",
        (
            *("hf/config.json", "hf/model.safetensors", "hf/tokenizer.json", "hf/tokenizer_config.json"),
            *("hf/generation_config.json", "hf/special_tokens_map.json"),
        ),
    ),
    (
        "report --study=study --output=r.html --bootstraps=0",
        "study",
        (
            *("study/study.json", "study/results.csv", "study/runs/redllm-1m/metrics.jsonl"),
            *("study/runs/redllm-1m/config.gin", "study/analysis/tasks.csv"),
        ),
    ),
    ("describe --gin_file=mine.gin", "run.gin", ("run.gin",)),
)
KINDS = {
    "a dangling link": lambda path: path.symlink_to("gone"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a FIFO": os.mkfifo,
}


def cases() -> Iterator[Case]:
    """Yields the cases."""
    for command, takes in READS:
        short = command.split()[0] + " " + next(word for word in command.split() if "FILE" in word)
        for name, make in KINDS.items():
            suffix = ".txt" if "--files" in command else ""
            full = command.replace("FILE", f"thing{suffix}")
            put = lambda folder, make=make, suffix=suffix: make(folder.path / f"thing{suffix}")  # noqa: E731
            yield case(f"path: {short} is {name}", full, "thing", takes=takes, make=put)
        for name, path in {"too long": LONG, "not UTF-8": "caf\udce9"}.items():
            if name == "too long" or "prompts" in command or "fit" in command:
                suffix = ".txt" if "--files" in command else ""
                yield case(f"path: {short} is {name}", command.replace("FILE", path + suffix), takes=takes)
    for command, takes in OPENS:
        short = command.split()[0] + " " + next(word for word in command.split() if "FOLDER" in word)
        for name, make in KINDS.items():
            put = lambda folder, make=make: make(folder.path / "thing")  # noqa: E731
            full = command.replace("FOLDER", "thing")
            yield case(f"path: {short} is {name}", full, "thing", takes=takes, make=put)
        for name, path in {"too long": LONG, "deeper than a path may be": DEEP}.items():
            yield case(f"path: {short} is {name}", command.replace("FOLDER", path), takes=takes)
    for command, takes, replaced in WITHIN:
        for file in replaced:
            for kind, make in {"a FIFO": os.mkfifo, "a folder": os.mkdir}.items():
                put = lambda folder, file=file, make=make: _replace(folder, file, make)  # noqa: E731
                files = {"mine.gin": "include 'run.gin'\n"}
                name, says = f"path: {command} where {file} is {kind}", file.split("/")[0]
                yield case(name, command, says, takes=takes, files=files, make=put)
    for command, takes in WRITES:
        short = command.split()[0] + " " + next(word for word in command.split() if "OUT" in word)
        for name, path in {
            "too long": LONG,
            "below a file": "file/out.html",
            "below a file below a file": "file/a/out.html",
            "a link to itself": "loop",
            "below a link to itself": "loop/out.html",
        }.items():
            if name == "a link to itself" and ("--json" in command or "report" in command):
                continue
            put = lambda folder: (folder.path / "loop").symlink_to("loop")  # noqa: E731
            full = command.replace("OUT", path)
            yield case(f"path: {short} is {name}", full, takes=takes, files={"file": "text"}, make=put)


def _replace(folder: Folder, file: str, make: Callable[[Path], object]) -> None:
    path = folder.path / file
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)

"""Exports that are damaged, incomplete, or something else."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.bad_input.case import DAMAGES, Case, bad_json, case, damaged, json_values

MANIFEST = "export/manifest.json"
FILES = "export/files.json"
EMBEDDING = "tensors.token_embedding"
READ = "evaluate --model=export --in_domain=store"
VALUES = (
    ("format", ("triarch.token_store", None, 1)),
    ("version", (2, 0, "1", None, 10**30)),
    ("config", (None, 7, [], {})),
    ("config.d_model", (0, -16, "16", None, 17, 10**15)),
    ("config.vocab_size", (0, 321, "320", 10**15)),
    ("config.num_decoder_layers", (0, -1, 2, 10**6, None)),
    ("config.num_heads", (0, 7, True)),
    ("config.norm", ("rms", None)),
    ("config.rope_base", (0, float("inf"), float("nan"), "1e4")),
    ("config.rope_scaling", (7, [], {"factor": 1})),
    ("config.d_modle", (16,)),
    ("vocabulary", (5, [], "bytes", {})),
    ("vocabulary.kind", ("pickle", None, "../bytes")),
    ("vocabulary.size", (-1, 10**12, "260")),
    ("vocabulary.special", (None, [], {})),
    ("vocabulary.fingerprint", ("0" * 64, None)),
    ("objective", (5, [], "CausalLM", {"class": "os.system"}, {"class": "CasualLM"})),
    ("fingerprint", ("0" * 64, None, 7, "")),
    ("tensors", (None, [], {}, 7)),
)
LACKING = ("format", "version", "config", "config.head_dim", "vocabulary", "fingerprint", "tensors")
COMMANDS = (
    ("export --workdir=exprot --output=e", "exprot", "export"),
    ("export --workdir=export --output=e --step=2", "step", ""),
    ("export --workdir=export --output=export", "export", "exists"),
    ("export --workdir=export --output=e --dtype=int8", "int8", ""),
    ("evaluate --model=export --in_domain=store --step=2", "step", ""),
    ("evaluate --model=export/parameters --in_domain=store", "parameters", ""),
    ("evaluate --model=export/manifest.json --in_domain=store", "manifest.json", ""),
    ("import export --output=e", "export", "config.json"),
    (
        "train --gin_file=run.gin --workdir=new --gin.RunConfig.init_from=export --gin.ModelConfig.d_ff=64",
        "tensor",
        "64",
    ),
    ("order export --steps=0", "export", ""),
)


def cases() -> Iterator[Case]:
    """Yields the cases."""
    for command, *says in COMMANDS:
        yield case(f"export: {command}", command, *says, takes="export store run.gin")
    takes = "export store"
    yield from json_values("export manifest", MANIFEST, READ, "export", takes=takes, values=VALUES, lacking=LACKING)
    for about, file in (("export manifest", MANIFEST), ("export files.json", FILES)):
        says = file.partition("/")[2]
        yield from bad_json(about, file, READ, says, takes=takes)
        yield from damaged(about, file, READ, says, takes=takes)
    for name, change in {
        "a size that is a text": {"size": "1"},
        "no size": {"sha256": "0" * 64},
        "a sum that is none": {"size": 1, "sha256": 7},
        "a file outside": None,
    }.items():
        entries = {"parameters/a": change} if change else {"../text.txt": {"size": 1, "sha256": "0" * 64}}
        files = {FILES: entries}
        yield case(f"export files.json: {name}", READ, "export", takes="export store", files=files)
    for name in ("cut in half", "empty", "zeros"):
        make = _largest(DAMAGES[name])
        yield case(f"export parameters: {name}", READ, "parameters", takes="export store", make=make)
    for place in ("manifest.json", "files.json", "parameters"):
        gone = lambda folder, place=place: folder.remove(f"export/{place}")  # noqa: E731
        yield case(f"export without {place}", READ, "export", takes="export store", make=gone)


def _largest(damage):
    def make(folder) -> None:
        files = [file for file in (folder.path / "export" / "parameters").rglob("*") if file.is_file()]
        largest = max(files, key=lambda file: file.stat().st_size)
        folder.edit(os.path.relpath(largest, folder.path), damage)

    return make

"""The formats: a good file of each, how it is made bad, and how triarch reads it."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import types
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import zstandard

from tests.bad_input.case import Folder
from tests.bad_input.samples import RUN, TABLE, TEXT
from tests.fuzz import mutations
from tests.fuzz.mutations import Inputs
from tests.report import test_evaluations, test_tasks

_JSON_LINES = "".join(json.dumps({"text": line, "id": i, "meta": {"a": [1]}}) + "\n" for i, line in enumerate("abcdef"))
_GIN_WORDS = (
    *("ModelConfig.d_model", "RunConfig.steps", "RunConfig", "@ModelConfig()", "@AdamW", "@CausalLM()", "%X", "X = 3"),
    *("include 'runs/run.gin'", "include 'f.gin'", "a/ModelConfig.d_model = 7", "None", "True", "(1,", "[", "{'a': 1}"),
    *("10**9", "-1", "1e999", "'rotary'", '"""', "\\", "#", "@", "%", "=", "()", "@Cosine()", "RunConfig.model = 3"),
)


@dataclasses.dataclass(frozen=True)
class Target:
    """A format.

    Attributes:
      name: of the format.
      file: where in the folder the file lies that is made bad.
      inputs: strategy of bad files for a good one.
      read: reads what lies in the folder; raises UserError for what is bad.
      takes: samples that lie in the folder.
      content: the good file, where it is in no sample.
      examples: inputs to try at a time; fewer where each is drawn.
    """

    name: str
    file: str
    inputs: Inputs
    read: Callable[[Path], object]
    takes: tuple[str, ...] = ()
    content: bytes | None = None
    examples: int = 60

    def prepare(self, folder: Folder) -> bytes:
        """Puts the good files into the folder; returns the one that is made bad."""
        for sample in self.takes:
            folder.take(sample)
        if self.content is not None:
            folder.write(self.file, self.content)
        return (folder.path / self.file).read_bytes()


def _read_store(folder: Path) -> None:
    from triarch.data.store import TokenStore
    from triarch.tokenizers import load_tokenizer

    store = TokenStore.open(folder / "store")
    load_tokenizer(store)
    for name in store.manifest.splits:
        split = store.split(name)
        if len(split):
            split[0]


def _read_export(folder: Path) -> None:
    from triarch.interchange import open_export

    open_export(folder / "export")


def _read_run(folder: Path) -> None:
    from triarch.loading import open_stored

    open_stored(folder / "run")


def _read_gin(folder: Path) -> None:
    from triarch.cli.gin import files as gin_files
    from triarch.training.config import validate

    gin_files.parse([str(folder / "f.gin")], [])
    validate(gin_files.build("RunConfig"))


def _read_hf(folder: Path) -> None:
    from triarch.interchange.huggingface.importing import open_folder

    opened = open_folder(folder / "hf")
    for link in opened.links:
        opened.tensors.read(link.theirs)


def _read_tokenizer(folder: Path) -> None:
    from triarch.tokenizers import given_tokenizer

    tokenizer = given_tokenizer(folder / "hf")
    tokenizer.decode(tokenizer.encode("A text with é, 中 and 123."))
    assert len(tokenizer.token_bytes.own) == tokenizer.info.size


def _read_sentencepiece(folder: Path) -> None:
    from triarch.tokenizers import given_tokenizer

    tokenizer = given_tokenizer(folder / "spiece.model")
    tokenizer.decode(tokenizer.encode("A text with é, 中 and 123."))


def _read_documents(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        from triarch.prepare.corpora.files import Files

        for _ in Files.matching([str(folder / name)], unit="line").documents():
            pass

    return read


def _read_table(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        from triarch.scaling.tables.table_files import read_table

        table = read_table(folder / name)
        table.numbers("N")
        table.text("name")

    return read


def _read_study(folder: Path) -> None:
    from triarch.report.study import read_study

    read_study(folder / "study")


def _read_analysis(folder: Path) -> None:
    from triarch.report import evaluations

    study = types.SimpleNamespace(folder=folder / "study", runs=())
    tasks = evaluations.study_tasks(study)
    for *_, panels in evaluations.analysis_sections(study, tasks):
        for panel in panels:
            panel.svg()
    evaluations.task_table(tasks)
    evaluations.suite_table(study.folder)


def _read_ledger(folder: Path) -> None:
    from triarch.sweeps.ledger import Ledger

    ledger = Ledger(folder / "ledger.jsonl")
    ledger.seconds()
    ledger.failures()


def _read_prompts(folder: Path) -> None:
    from triarch.cli.prompts import read_prompts

    read_prompts([], folder / "prompts.jsonl")


def _parquet() -> bytes:
    rows = [line.split(",") for line in TABLE.splitlines()]
    columns = {
        name: [row[i] if name == "name" else float(row[i]) for row in rows[1:]] for i, name in enumerate(rows[0])
    }
    file = io.BytesIO()
    pa.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def _text_parquet() -> bytes:
    file = io.BytesIO()
    pa.parquet.write_table(pa.table({"text": TEXT.splitlines()[:20]}), file)
    return file.getvalue()


def _arrow() -> bytes:
    table, file = pa.table({"text": TEXT.splitlines()[:20]}), io.BytesIO()
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def _documents(name: str, inputs: Inputs, content: bytes) -> Target:
    return Target(f"documents of {name}", name, inputs, _read_documents(name), content=content)


def _table(name: str, inputs: Inputs, content: bytes) -> Target:
    return Target(f"table {name}", name, inputs, _read_table(name), content=content)


def _study(file: str, inputs: Inputs) -> Target:
    return Target(f"study {file.rsplit('/', 1)[-1]}", f"study/{file}", inputs, _read_study, ("study",))


def _analysis(file: str, rows: list[dict]) -> Target:
    lines = [list(rows[0]), *([*row.values()] for row in rows)]
    content = "".join(",".join(map(str, line)) + "\n" for line in lines).encode()
    name = f"study/analysis/{file}"
    return Target(f"analysis {file}", name, mutations.tables(","), _read_analysis, content=content, examples=8)


_ROWS = [dict(zip(TABLE.split("\n")[0].split(","), row.split(","), strict=True)) for row in TABLE.splitlines()[1:]]
TARGETS = (
    Target("store manifest", "store/manifest.json", mutations.json_files, _read_store, ("store",)),
    Target("store token_bytes.npy", "store/token_bytes.npy", mutations.any_bytes, _read_store, ("store",)),
    Target("export manifest", "export/manifest.json", mutations.json_files, _read_export, ("export",)),
    Target("export files.json", "export/files.json", mutations.json_files, _read_export, ("export",)),
    Target("run config.json", "run/config.json", mutations.json_files, _read_run, ("run",)),
    Target("gin", "f.gin", mutations.text_files(*_GIN_WORDS), _read_gin, content=RUN.encode()),
    Target("hf config.json", "hf/config.json", mutations.json_files, _read_hf, ("hf",)),
    Target("safetensors", "hf/model.safetensors", mutations.safetensors_files, _read_hf, ("hf",)),
    Target("tokenizer.json", "hf/tokenizer.json", mutations.json_files, _read_tokenizer, ("hf",)),
    Target("tokenizer_config.json", "hf/tokenizer_config.json", mutations.json_files, _read_tokenizer, ("hf",)),
    Target(
        "special_tokens_map.json", "hf/special_tokens_map.json", mutations.json_files, _read_tokenizer, ("hf",),
        json.dumps({"eos_token": {"content": "<|endoftext|>", "lstrip": False}, "pad_token": "<|endoftext|>"}).encode(),
    ),
    Target("spiece.model", "spiece.model", mutations.any_bytes, _read_sentencepiece, ("spiece.model",)),
    _documents("lines.jsonl", mutations.json_lines, _JSON_LINES.encode()),
    _documents("lines.jsonl.gz", mutations.any_bytes, gzip.compress(_JSON_LINES.encode() * 50)),
    _documents("lines.jsonl.zst", mutations.any_bytes, zstandard.compress(_JSON_LINES.encode() * 50)),
    _documents("text.txt", mutations.text_files(), TEXT.encode()),
    _documents("text.parquet", mutations.any_bytes, _text_parquet()),
    _documents("text.arrow", mutations.any_bytes, _arrow()),
    _table("table.csv", mutations.tables(","), TABLE.encode()),
    _table("table.tsv", mutations.tables("\t"), TABLE.replace(",", "\t").encode()),
    _table("table.jsonl", mutations.json_lines, "".join(json.dumps(row) + "\n" for row in _ROWS).encode()),
    _table("table.json", mutations.json_files, json.dumps(_ROWS).encode()),
    _table("table.parquet", mutations.any_bytes, _parquet()),
    _study("study.json", mutations.json_files),
    _study("results.csv", mutations.tables(",")),
    _study("evaluations.csv", mutations.tables(",")),
    _study("runs/redllm-1m/metrics.jsonl", mutations.json_lines),
    Target(
        "ledger.jsonl", "ledger.jsonl", mutations.json_lines, _read_ledger,
        content=b'{"owner": "a", "stage": "train", "status": "failed", "seconds": 1.5}\n' * 3,
    ),
    _analysis("suite.csv", test_evaluations.suite_rows(("red", "enc"))),
    _analysis("extrapolation.csv", test_evaluations.length_rows()),
    _analysis("positions.csv", [row | {"first": 1, "last": 3} for row in test_evaluations.length_rows()[:6]]),
    _analysis("attention.csv", test_evaluations.head_rows()),
    _analysis("locality.csv", test_evaluations.place_rows("locality")),
    _analysis("keys.csv", test_evaluations.place_rows("mass")),
    _analysis("map-red-decoder.csv", test_evaluations.map_rows()),
    _analysis("tasks.csv", test_tasks.task_rows()),
    Target(
        "analysis generation_throughput.json", "study/analysis/generation_throughput.json", mutations.json_files,
        _read_analysis, content=json.dumps(test_tasks.MEASURED).encode(), examples=8,
    ),
    Target("prompts.jsonl", "prompts.jsonl", mutations.json_lines, _read_prompts, content=b'{"prompt": "a"}\n' * 3),
)  # fmt: skip

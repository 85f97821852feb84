"""What `triarch order` says of a run, read anew from the files and tokenized, is what the run is fed."""

import csv
import dataclasses
import gzip
import itertools
import json
from collections import defaultdict

import pyarrow.parquet
import pytest

from tests.prepare.provenance import tokens_of
from tests.training import tiny
from triarch.cli.gin.files import render
from triarch.cli.main import main
from triarch.data.manifest import FILE_NAME
from triarch.data.mixture import MixturePhase, StoreMixture
from triarch.objectives import CausalLM, Supervised
from triarch.prepare.corpora.files import Files
from triarch.prepare.corpora.selection import Filters
from triarch.prepare.pipeline import VocabularyChoice, prepare
from triarch.tokenizers import load_tokenizer
from triarch.training import DataConfig, train
from triarch.training.inputs import next_order, open_inputs
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant
from triarch.training.record import order as orders
from triarch.training.record.fingerprint import write_folder
from triarch.training.record.segments import history

LENGTHS = {"inputs": 9, "targets": 15}
WINDOW = sum(LENGTHS.values())
SUPERVISED = Supervised(*LENGTHS.values())
OBJECTIVES = {"windows": CausalLM(), "packed": CausalLM(), "pairs": SUPERVISED, "packed_pairs": SUPERVISED}
STEPS = 44


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two stores of each layout, of compressed JSON lines and of Parquet, with filters and without duplicates."""
    folder = tmp_path_factory.mktemp("order")
    rows = [{"q": f"why {n}?" * (n % 3), "a": f"because {n % 37} é " * (n % 5 + 1)} for n in range(90)]
    (folder / "first.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows[:60])).encode()))
    pyarrow.parquet.write_table(
        pyarrow.table({name: [r[name] for r in rows[50:]] for name in "qa"}), folder / "b.parquet"
    )

    def make(layout, name, file):
        corpus = Files((str(folder / file),), text_field="a", inputs_field="q" if "pairs" in layout else None)
        filters = Filters(12, 100, deduplicate=True)
        arguments = (corpus, "test", folder / layout / name, VocabularyChoice("bytes"), WINDOW, 0, 1)
        return prepare(*arguments, layout=layout, lengths=LENGTHS, filters=filters)

    files = {"first": "first.jsonl.gz", "second": "b.parquet"}
    return {layout: [make(layout, name, file) for name, file in files.items()] for layout in OBJECTIVES}


def _run(tmp_path, stores, layout, mixed):
    """Returns a run's folder as training makes it, and its inputs."""
    paths = tuple(str(store.path) for store in stores[layout])
    phases = (MixturePhase(0, (3.0, 1.0)), MixturePhase(7, (0, 1.0)), MixturePhase(10, temperature=2.0))
    data = DataConfig(WINDOW, StoreMixture(paths, phases) if mixed else paths[0])
    model = tiny.model("decoder-only", vocab_size=260)
    config = tiny.run_config(
        "", model=model, objective=OBJECTIVES[layout], data=data, steps=STEPS, batch_size=10, seed=5
    )
    inputs = open_inputs(config)
    write_folder(tmp_path / "run", config, render(config), inputs.stores)
    return tmp_path / "run", inputs


def _order(*arguments):
    assert main(["order", *map(str, arguments)]) == 0


def _read(path):
    """The rows of a file, whatever it is."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    with path.open(newline="") as file:
        rows = [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]
    words = ("store", "source", "part")
    return [{k: v if v is None or k in words else int(v) for k, v in row.items()} for row in rows]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("layout", OBJECTIVES)
def test_the_documents_make_the_batches(tmp_path, monkeypatch, stores, layout, mixed):
    monkeypatch.setattr(orders, "_RUNS", 70)
    run, inputs = _run(tmp_path, stores, layout, mixed)
    _order(run, "--steps=0:", f"--output={tmp_path / 'order.jsonl'}")
    tokenizer = load_tokenizer(inputs.stores[0])
    fields, cut = (["q", "a"], LENGTHS) if "pairs" in layout else (["a"], None)
    made, owners, ranges = defaultdict(list), {}, defaultdict(list)
    for row in _read(tmp_path / "order.jsonl"):
        place = row["step"], row["row"]
        made[place] += tokens_of(row, tokenizer, fields, cut)
        assert owners.setdefault(place, (row["store"], row["example"], row["epoch"]))[0] == row["store"]
        document = row["store"], row["epoch"], row["source"], row["record"], row["part"]
        ranges[document].append((row["token_start"], row["token_end"], row["document_tokens"]))
    assert list(made) == [(step, row) for step in range(STEPS) for row in range(10)]
    batches = inputs.training()
    for step in range(STEPS):
        for row, found in enumerate(batches.batch(step)["decoder_target_tokens"].tolist()):
            assert found == made[step, row] + [0] * (WINDOW - len(made[step, row]))
    _every_document_once_an_epoch(layout, inputs.stores, owners, ranges)


def _every_document_once_an_epoch(layout, stores, owners, ranges):
    for store in stores:
        counts = store.manifest.splits["train"]
        seen = [(example, epoch) for path, example, epoch in owners.values() if path == str(store.path)]
        assert len(set(seen)) == len(seen)
        whole = max(epoch for _, epoch in seen)  # The epochs before this one are complete.
        assert whole > 0
        for epoch in range(whole):
            assert sorted(e for e, of in seen if of == epoch) == list(range(counts.examples))
            total = 0
            for (path, of, *_), parts in ranges.items():
                if (path, of) != (str(store.path), epoch):
                    continue
                parts = sorted(parts)
                assert parts[0][0] == 0 and all(a[1] == b[0] for a, b in itertools.pairwise(parts))
                total += parts[-1][1]
            assert total == counts.tokens - counts.dropped_tokens
            if layout != "windows":
                documents = {key[2:4] for key in ranges if key[:2] == (str(store.path), epoch)}
                assert len(documents) == counts.documents


def test_all_forms_say_the_same(tmp_path, stores, capsys):
    run, _ = _run(tmp_path, stores, "packed", True)
    rows = []
    for suffix in ("jsonl", "csv", "parquet"):
        _order(run, "--steps=3:17", f"--output={tmp_path / f'order.{suffix}'}")
        rows.append(_read(tmp_path / f"order.{suffix}"))
    capsys.readouterr()
    _order(run, "--steps=3:17", "--json=-")
    printed, _, result = capsys.readouterr().out.partition("\n{\n")
    result = json.loads("{" + result)
    assert rows[0] == rows[1] == rows[2] == result["order"] and len(rows[0]) > 140
    assert {row["record"] for row in rows[0]} and any(row["byte_start"] is None for row in rows[0])
    assert result["steps"] == [3, 17] and result["rows"] == len(rows[0]) == printed.count(": tokens ")
    assert printed.startswith(f"step 3 row 0: example {rows[0][0]['example']} of {rows[0][0]['store']}, epoch ")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "order.jsonl", "order.csv", "order.parquet"}


def test_hosts_share_a_batch(tmp_path, stores):
    run, _ = _run(tmp_path, stores, "windows", True)
    _order(run, "--steps=5", f"--output={tmp_path / 'all.jsonl'}")
    parts = []
    for host in range(5):
        _order(run, "--steps=5", f"--host={host}/5", f"--output={tmp_path / 'host.jsonl'}")
        parts += _read(tmp_path / "host.jsonl")
    assert parts == _read(tmp_path / "all.jsonl") and {row["row"] for row in parts} == set(range(10))


def test_a_run_that_is_not_there_yet(tmp_path, stores):
    """The same from a gin file as from the run that it makes."""
    run, inputs = _run(tmp_path, stores, "windows", False)
    (tmp_path / "planned.gin").write_text(render(dataclasses.replace(inputs.config, seed=6)))
    for arguments in ([run], [f"--gin_file={tmp_path / 'planned.gin'}", "--gin.RunConfig.seed=5"]):
        _order(*arguments, "--steps=3", f"--output={tmp_path / f'{len(arguments)}.jsonl'}")
    assert _read(tmp_path / "1.jsonl") == _read(tmp_path / "2.jsonl")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps=44"], "steps 44:45: the run has steps 0 to 43 only"),
        (["--steps=20:45"], "steps 20:45: the run has steps 0 to 43 only"),
        (["--steps=3:3"], "steps 3:3: expected a first step and a larger one"),
        (["--steps=three"], "--steps=three: expected A:B"),
        (["--steps=-1:3"], "--steps=-1:3: expected A:B"),
        (["--steps=1", "--host=2/2"], "--host=2/2: expected I/N"),
        (["--steps=1", "--host=0/3"], "--host=0/3: 10 rows cannot be shared out evenly between 3 hosts"),
        (["--steps=1", "--output=x.json"], "--output=x.json: unknown kind of file (did you mean '.jsonl'?)"),
        (["--steps=1", "--output=none/x.csv"], "--output=none/x.csv: no folder none"),
        (["--steps=1", "--gin.RunConfig.seed=6"], "holds a run under another config (seed: 5 -> 6)"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, stores, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    run, _ = _run(tmp_path, stores, "windows", False)
    capsys.readouterr()
    assert main(["order", str(run), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_no_run_and_a_store_of_old(tmp_path, stores, capsys):
    assert main(["order", str(tmp_path / "none"), "--steps=1"]) == 1
    assert "none: no such run folder" in capsys.readouterr().err
    assert main(["order", str(tmp_path), "--steps=1"]) == 1
    assert "holds no run: there is no config.json" in capsys.readouterr().err
    assert main(["order", "--steps=1"]) == 1
    assert "name a run folder, or describe a run with --gin_file" in capsys.readouterr().err
    run, inputs = _run(tmp_path, stores, "windows", False)
    manifest = inputs.stores[0].path / FILE_NAME
    text = manifest.read_text()
    try:
        manifest.write_text(json.dumps({k: v for k, v in json.loads(text).items() if k != "provenance"}))
        assert main(["order", str(run), "--steps=1"]) == 1
        assert "made before triarch recorded which documents" in capsys.readouterr().err
    finally:
        manifest.write_text(text)


def test_segments_of_a_run_each_have_batches_of_their_own(tmp_path, stores, capsys):
    """Another batch size from step 5 on, and the second store besides: documents go on where they were."""
    run, first = _run(tmp_path, stores, "windows", False)
    mixture = StoreMixture(tuple(str(store.path) for store in stores["windows"]), (MixturePhase(weights=(1.0, 1.0)),))
    data = DataConfig(WINDOW, mixture)
    config = dataclasses.replace(first.config, batch_size=4, data=data)
    second = open_inputs(config)
    second = dataclasses.replace(second, order=next_order(second, first.segment, 5), earlier=(first.segment,))
    write_folder(run, config, "", second.stores, history(second.order, second.earlier))
    (run / "metrics.jsonl").write_text('{"step": 1}\n')
    _order(run, "--steps=3:8", f"--output={tmp_path / 'order.jsonl'}")
    rows = _read(tmp_path / "order.jsonl")
    assert capsys.readouterr().out.startswith("from step 0 on: batches of 10\nfrom step 5 on: batches of 4\n")
    found = defaultdict(list)
    tokenizer = load_tokenizer(first.stores[0])
    for row in rows:
        found[row["step"], row["row"]] += tokens_of(row, tokenizer, ["a"], None)
    assert [step for step, _ in found] == [3] * 10 + [4] * 10 + [5] * 4 + [6] * 4 + [7] * 4
    for step in range(3, 8):
        batches = (first if step < 5 else second).training()
        for row, tokens in enumerate(batches.batch(step)["decoder_target_tokens"].tolist()):
            assert found[step, row] == tokens
    for step in (4, 5, 7):
        assert main(["inspect", str(run), f"--step={step}", "--examples=4", f"--json={tmp_path / 'shown'}"]) == 0
        shown = json.loads((tmp_path / "shown").read_text())["rows"]
        expected = (first if step < 5 else second).training().batch(step)["decoder_target_tokens"][:4].tolist()
        assert [row["features"]["decoder_target_tokens"] for row in shown] == expected
        assert [row["store"] for row in shown] == _stores(rows, step)[:4]
    assert main(["inspect", f"--gin_file={run / 'config.gin'}", "--step=5"]) == 1
    assert f"triarch inspect {run} shows its batches" in capsys.readouterr().err
    assert {row["store"] for row in rows if row["step"] >= 5} == {str(store.path) for store in stores["windows"]}


def _stores(rows, step):
    """Returns the store of each row of a step."""
    return list({row["row"]: row["store"] for row in rows if row["step"] == step}.values())


@pytest.mark.slow
def test_a_run_that_reads_on_after_another_is_told_before_it_is_begun(tmp_path, stores, capsys):
    """With `init_data`, steps are those that the other run would have made next, in a folder or in gin alone."""
    other, first = _run(tmp_path, stores, "windows", False)
    optimizer = AdamW(Constant(1e-3, warmup_steps=0))
    short = dataclasses.replace(first.config, steps=2, tensorboard=False, optimizer=optimizer)
    write_folder(other, short, render(short), first.stores)
    train(short, other, render(short))
    config = dataclasses.replace(short, steps=4, init_from=str(other), init_data=True)
    write_folder(tmp_path / "unbegun", config, render(config), first.stores)
    wanted = first.training().batch(3)["decoder_target_tokens"].tolist()
    for number, named in enumerate([tmp_path / "unbegun", f"--gin_file={tmp_path / 'unbegun' / 'config.gin'}"]):
        _order(named, "--steps=0:2", f"--output={tmp_path / f'{number}.jsonl'}")
        found = _read(tmp_path / f"{number}.jsonl")
        assert found[0]["example"] == first.training().example_ids(2)[0].index
        assert found[-1]["example"] == first.training().example_ids(3)[-1].index
    assert main(["inspect", str(tmp_path / "unbegun"), "--step=1", f"--json={tmp_path / 'shown'}"]) == 0
    shown = json.loads((tmp_path / "shown").read_text())["rows"]
    assert [row["features"]["decoder_target_tokens"] for row in shown] == wanted[:2]
    assert main(["inspect", f"--gin_file={tmp_path / 'unbegun' / 'config.gin'}", "--step=1"]) == 1
    assert "reads on after the data of another run" in capsys.readouterr().err


def test_a_file_for_every_interval_between_checkpoints(tmp_path, stores, capsys):
    """Their rows are those of the whole order; what is there stays, and another run's folder is left alone."""
    run, inputs = _run(tmp_path, stores, "packed", True)
    config = dataclasses.replace(inputs.config, checkpoint=dataclasses.replace(inputs.config.checkpoint, every=15))
    write_folder(run, config, render(config), inputs.stores)
    _order(run, "--steps=0:", f"--output={tmp_path / 'whole.jsonl'}")
    rows = _read(tmp_path / "whole.jsonl")
    _order(run, "--by_checkpoint", "--documents", "--files=csv", f"--output={tmp_path / 'documents'}")
    parts = [_read(tmp_path / "documents" / f"step-{step}.csv") for step in (15, 30, 44)]
    assert list(itertools.chain(*parts)) == rows and [part[0]["step"] for part in parts] == [0, 15, 30]
    ids = tmp_path / "ids"
    _order(run, "--by_checkpoint", f"--output={ids}")
    names = "step", "row", "epoch", "store", "example"
    wanted = list(dict.fromkeys(tuple(row[name] for name in names) for row in rows))
    found = [_read(ids / f"step-{step}.jsonl") for step in (15, 30, 44)]
    assert [tuple(row.values()) for part in found for row in part] == wanted and len(wanted) == 44 * 10
    manifest = json.loads((ids / "order.json").read_text())
    assert manifest["files"][1] == {"file": "step-30.jsonl", "first_step": 15, "steps": 15}
    (ids / "step-15.jsonl").write_text("kept\n")
    (ids / "step-30.jsonl").unlink()
    _order(run, "--by_checkpoint", f"--output={ids}")
    assert (ids / "step-15.jsonl").read_text() == "kept\n" and _read(ids / "step-30.jsonl") == found[1]
    for arguments, message in (
        (["--by_checkpoint"], "--by_checkpoint: name a folder with --output=DIR"),
        (
            ["--by_checkpoint", f"--output={ids}", "--steps=3:9"],
            "ids: holds the order of another run or of other steps",
        ),
        (["--by_checkpoint", f"--output={ids}", "--files=json"], "--files=json: expected jsonl, csv, parquet (did you"),
        (["--by_checkpoint", f"--output={run}"], "run: holds other files: choose another --output"),
        (["--documents", "--steps=1"], "--documents goes with --by_checkpoint"),
        ([], "name steps with --steps=A:B, or all of the run with --by_checkpoint"),
    ):
        capsys.readouterr()
        assert main(["order", str(run), *arguments]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1

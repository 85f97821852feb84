"""Rows to tune on: what each format says, the mixture of FLAN 2022, tasks held out, and rows that are none."""

from __future__ import annotations

import collections
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.tokenizers.test_chat import CHATML, write_folder
from triarch.cli.main import main
from triarch.data.store import TokenStore
from triarch.data.tasks import check_held_out
from triarch.errors import UserError
from triarch.prepare.corpora.documents import Document
from triarch.prepare.corpora.instructions import Instructions, RowTemplates
from triarch.prepare.corpora.instructions.flan import SUBMIXTURES, parts
from triarch.tokenizers import load_tokenizer

ROWS = {
    "flan": ({"inputs": "a", "targets": "b", "_task_name": "rte", "_template_type": "zs_opt"}, "a", "b", "rte"),
    "sirneural": ({"inputs": "a", "targets": "b", "task": "rte:1.0"}, "a", "b", "rte:1.0"),
    "chiayewken": ({"source": "a", "target": "b", "task_name": "rte", "task_source": "Flan2021"}, "a", "b", "rte"),
    "p3": ({"inputs_pretokenized": " a", "targets_pretokenized": " b", "inputs": [1], "targets": [2]}, "a", "b", None),
    "prompts": ({"template": "rte_does", "prompt": "a", "completion": "b"}, "a", "b", "rte_does"),
    "natural": (
        {"definition": "Answer", "inputs": "What?", "targets": ["b", "c"], "task_name": "task001"},
        "Definition: Answer.\n\nNow complete the following example -\nInput: What?\nOutput: ",
        "b",
        "task001",
    ),
}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def documents(path, **options):
    return [one for one in Instructions((str(path),), **options).documents() if isinstance(one, Document)]


@pytest.mark.parametrize("name", ROWS)
def test_formats(name, tmp_path):
    row, inputs, targets, task = ROWS[name]
    (found,) = documents(write(tmp_path / "rows.jsonl", [row]))
    assert (found.inputs, found.text, found.task) == (inputs, targets, task or "unnamed")
    pyarrow.parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    (again,) = documents(tmp_path / "rows.parquet")
    assert (again.inputs, again.text, again.task) == (found.inputs, found.text, found.task)


def test_templates_of_ones_own(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"question": "1+1", "choices": ["2", "3"], "answer": 0}])
    templates = RowTemplates("{{question}}? {{choices | join(', ')}}", "{{choices[answer]}}")
    (found,) = documents(path, templates=templates)
    assert (found.inputs, found.text) == ("1+1? 2, 3", "2")


SYSTEM = {"role": "system", "content": "Be brief"}
CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"inputs": "a"}, "no field 'targets'"),
        ({"inputs": "a", "targets": " "}, "field 'targets' is empty: a row to tune on needs targets"),
        ({"inputs": "a", "targets": None}, "field 'targets' is null"),
        ({"text": "a"}, "has text: expected a pair of fields"),
        ({"messages": [{"role": "asistant", "content": "a"}]}, "unknown role 'asistant' (did you mean 'assistant'?)"),
        ({"messages": [{"role": "user", "content": "a"}]}, "messages hold no message of the assistant"),
        ({"messages": ["a"]}, "messages[0] is str"),
        ({"conversations": [{"from": "gpt", "value": None}]}, "conversations[0]: its content is null"),
        (CHAT, "and this vocabulary has none: take a model's folder with --vocabulary=FOLDER"),
    ],
)
def test_rows_that_are_none_are_named(row, message, tmp_path):
    path = write(tmp_path / "rows.jsonl", [ROWS["flan"][0], row])
    with pytest.raises(UserError) as error:
        documents(path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(documents(path, skip_bad_records=True)) == 1


def run(*arguments):
    return main(["prepare", "--workers=1", *map(str, arguments)])


def test_a_template_that_fails_names_the_row(tmp_path, capsys):
    path = write(tmp_path / "rows.jsonl", [CHAT, {"messages": [SYSTEM, *CHAT["messages"]]}])
    template = tmp_path / "alternate.jinja"
    template.write_text("{% if messages[0].role != 'user' %}{{ raise_exception('the user begins') }}{% endif %}x")
    flags = ("--task=instructions", f"--files={path}", "--vocabulary=bytes", f"--output={tmp_path / 'store'}")
    assert run(*flags, f"--chat_template={template}", "--validation_fraction=0") == 1
    # The first one's template writes nothing of the answer.
    assert f"{path}:1: --chat_template={template} writes nothing of the assistant's messages" in capsys.readouterr().err
    template.write_text(template.read_text() + "{% for message in messages %}{{ message.content }}{% endfor %}")
    assert run(*flags, f"--chat_template={template}", "--validation_fraction=0") == 1
    assert f"{path}:2: --chat_template={template} fails on it: the user begins" in capsys.readouterr().err
    assert run(*flags[:2], "--inputs_template={{a}}", "--targets_template={{b}}", *flags[2:]) == 1
    assert f"{path}:1: --inputs_template fails on it: 'a' is undefined" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_targets_cut_to_nothing(tmp_path, capsys):
    path = write(tmp_path / "rows.jsonl", [ROWS["flan"][0]])
    flags = ("--task=instructions", f"--files={path}", "--vocabulary=bytes", f"--output={tmp_path / 'store'}")
    assert run(*flags, "--max_targets=1") == 1
    assert "max_targets=1: leaves nothing of targets but the token that ends them" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["pairs", "packed_pairs"])
def test_conversations_in_a_store(layout, tmp_path):
    """An example for each answer, its ids those of the template, cut at the beginning of what is read."""
    folder = tmp_path / "folder"
    write_folder(folder, CHATML)
    long = {"messages": [{"role": "user", "content": "word " * 90}, {"role": "assistant", "content": "Yes"}]}
    path = write(tmp_path / "rows.jsonl", [{"messages": [*CHAT["messages"], *CHAT["messages"]]}, long])
    flags = ("--task=instructions", f"--files={path}", f"--vocabulary={folder}", f"--output={tmp_path / 'store'}")
    assert run(*flags, f"--layout={layout}", "--max_inputs=64", "--max_targets=32", "--validation_fraction=0") == 0
    store = TokenStore.open(tmp_path / "store")
    assert (store.manifest.splits["train"].documents, store.manifest.source["cut_documents"]) == (3, 1)
    tokenizer = load_tokenizer(store)
    reader = store.split("train")
    if layout == "packed_pairs":
        assert sum(len(reader[index]["num_inputs"]) for index in range(len(reader))) == 3
        return
    first, second, cut = (reader[index] for index in range(3))
    start, end = (tokenizer.encode_rendered("", f"<|im_{name}|>")[1].tolist() for name in ("start", "end"))
    assert first["inputs"].tolist()[:1] == second["inputs"].tolist()[:1] == start
    assert tokenizer.decode(first["targets"]) == "Ho"
    assert first["targets"].tolist()[-1:] == end
    assert len(second["inputs"]) > len(first["inputs"]) + len(first["targets"])
    assert len(cut["inputs"]) == 64
    assert tokenizer.decode(cut["inputs"]).endswith("assistant\n")


def flan_rows(task, count):
    return [{"inputs": f"{task} {n}", "targets": f"t{n}", "task": task} for n in range(count)]


def test_the_mixture_of_flan_2022(tmp_path, capsys):
    """Published rates, inverted tasks at 0.3, and tasks held out in a split of their own."""
    assert sum(one.rate for one in SUBMIXTURES) == pytest.approx(1)
    data = tmp_path / "data"
    data.mkdir()
    names = [
        *(f"{mix}_{kind}" for mix in ("flan", "t0") for kind in ("zs_opt", "fs_opt", "zs_noopt", "fs_noopt")),
        *(f"{mix}_{kind}" for mix in ("niv2", "dialog") for kind in ("zs_opt", "fs_opt")),
    ]
    for name in names:
        write(data / f"{name}_train.jsonl", flan_rows("rte", 8) + flan_rows("anli/r1:0.1.0", 4))
    write(data / "cot_zs_opt_train.jsonl", flan_rows("cot_gsm8k", 20) + flan_rows("cot_gsm8k_ii", 20))
    flags = ("--task=flan2022", f"--data_dir={data}", "--vocabulary=bytes", f"--output={tmp_path / 'out'}")
    assert run(*flags, "--hold_out=anli*", "--validation_fraction=0", "--max_inputs=64", "--max_targets=32") == 0
    assert "without cot_fs_opt: no file" in capsys.readouterr().out
    store = TokenStore.open(tmp_path / "out" / "t0_fs_noopt")
    assert store.manifest.source["tasks"] == {"train": {"rte": 8}, "test": {"anli/r1:0.1.0": 4}}
    cot = TokenStore.open(tmp_path / "out" / "cot_zs_opt").manifest.source["tasks"]["train"]
    assert cot == {"cot_gsm8k": 20, "cot_gsm8k_ii": 6}
    text = (tmp_path / "out" / "flan2022.gin").read_text()
    weights = dict(zip(*_mixture(text), strict=True))
    assert weights["flan2021_zs_opt"] / weights["niv2_zs_opt"] == pytest.approx(0.4 / 4 / (0.2 / 2))
    _check_held_out(tmp_path / "out" / "t0_fs_noopt")
    assert weights["t0_zs_opt"] / weights["cot_zs_opt"] == pytest.approx(0.32 / 4 / (0.05 / 2))
    assert run(*flags, "--hold_out=mnli", "--overwrite") == 1
    assert "--hold_out=mnli: no task of FLAN 2022 as it lies there matches" in capsys.readouterr().err


def _check_held_out(path):
    """A run's config is held to what the store says of its training split."""
    store = TokenStore.open(path)
    check_held_out([store], "train", ["anli*"])
    message = r"held_out_tasks: 'rt\*' is held out, and .* has 8 examples of 'rte' to train on: prepare it again with"
    with pytest.raises(UserError, match=message):
        check_held_out([store], "train", ["anli*", "rt*"])


def _mixture(text):
    """Names of the stores and their weights, of a gin file."""
    import ast
    import re

    stores = ast.literal_eval(re.search(r"StoreMixture\.stores = (\(.*?\))$", text, re.MULTILINE | re.DOTALL)[1])
    weights = ast.literal_eval(re.search(r"MixturePhase\.weights = (\(.*?\))$", text, re.MULTILINE | re.DOTALL)[1])
    return [store.rsplit("/", 1)[1] for store in stores], weights


def test_a_dump_whose_rows_say_what_they_are(tmp_path):
    rows = [
        {"inputs": f"{source} {style} {n}", "targets": "x", "_task_source": source, "_template_type": style}
        for source in ("Flan2021", "P3", "CoT")
        for style in ("zs_opt", "fs_noopt")
        for n in range(3)
    ]
    found, _ = parts([str(write(tmp_path / "flan_v2.jsonl", rows))], str(tmp_path))
    counts = {part.name: sum(part.corpus.task_rows.values()) for part in found}
    assert {name for name, count in counts.items() if count} == {
        *("flan2021_zs_opt", "flan2021_fs_noopt", "t0_zs_opt", "t0_fs_noopt", "cot_zs_opt")
    }
    assert counts["t0_zs_opt"] == 3


def test_a_cap_takes_rows_evenly(tmp_path):
    path = write(tmp_path / "rows.jsonl", flan_rows("a", 100) + flan_rows("b", 3))
    found = documents(path, cap=10)
    assert collections.Counter(one.task for one in found) == {"a": 10, "b": 3}
    places = np.array([int(one.inputs.split()[1]) for one in found if one.task == "a"])
    assert set(np.diff(places)) == {10}

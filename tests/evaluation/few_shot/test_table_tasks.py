"""Tasks straight from a table: what is written is what the harness reads, and mistakes are one line."""

from __future__ import annotations

import dataclasses
import json

import pytest
import yaml

from tests.evaluation.few_shot.test_tasks import export
from tests.models import tiny
from triarch.cli.evaluating import few_shot
from triarch.cli.main import main
from triarch.errors import UserError
from triarch.evaluation.few_shot.table_tasks import TableTask

pytest.importorskip("lm_eval")

HEADER = "question,a,b,answer\n"


def gold(folder, name, text, choices=("a", "b")):
    path = folder / name
    path.write_text(text)
    task = TableTask(path, "question", choices, "answer")
    told = task.write(folder / "made")
    lines = (folder / "made" / f"{task.name}.jsonl").read_text().splitlines()
    return told, [json.loads(line) for line in lines]


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    (tmp_path / "made").mkdir()


@pytest.mark.parametrize(
    ("answers", "told", "expected"),
    [
        (["yes", "no"], "texts of choices", [0, 1]),
        (["b", "a"], "names of columns", [1, 0]),
        (["A", "B"], "letters", [0, 1]),
        (["0", "1"], "numbers from 0", [0, 1]),
        (["2", "1"], "numbers from 1", [1, 0]),
    ],
)
def test_answers_are_read_as_they_are_meant(tmp_path, answers, told, expected):
    columns = ("a", "b") if told != "letters" else ("first", "second")
    header = ",".join(("question", *columns, "answer"))
    text = header + "\n" + "".join(f'"Is {n}, ""so""?",yes,no,{answer}\n' for n, answer in enumerate(answers))
    read, rows = gold(tmp_path, "my exam.csv", text, columns)
    assert read == told
    assert [row["gold"] for row in rows] == expected
    assert rows[1] == {"question": 'Is 1, "so"?', "choices": ["yes", "no"], "gold": expected[1]}


def test_all_kinds_of_files_say_the_same(tmp_path):
    rows = [{"question": f"é {n}?", "choices": ["x", "y", "z"], "answer": n} for n in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    _, first = gold(tmp_path, "a.jsonl", lines, ("choices",))
    table = [f'{row["question"]}\t"[""x"", ""y"", ""z""]"\t{row["answer"]}' for row in rows]
    _, second = gold(tmp_path, "b.tsv", "\ufeff" + "\n".join(["question\tchoices\tanswer", *table]), ("choices",))
    assert first == second and [row["gold"] for row in first] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", HEADER, "holds no row"),
        ("t.csv", "question,a,b,answr\n1,2,3,4\n", r"no column 'answer' \(did you mean 'answr'"),
        ("t.csv", HEADER + "q,x,y\n", "row 1 has 3 cells, its header 4"),
        ("t.csv", HEADER + "q,x,y,A\nq,x,,B\n", "row 2 has no 'b'"),
        ("t.csv", HEADER + "q,x,y,A\nq,x,y,E\n", "row 2: 'answer' is 'E', and its choices are 'x', 'y': expected"),
        ("t.csv", "question,a,a,answer\nq,x,y,A\n", "column 'a' is there twice"),
        ("t.jsonl", "[1]\n", "t.jsonl line 1: expected an object"),
        ("t.jsonl", "{\n", "t.jsonl line 1: not JSON"),
        ("t.txt", "x", r"unknown kind of file"),
    ],
)
def test_mistakes_are_one_line(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message) as error:
        gold(tmp_path, name, text)
    assert "\n" not in str(error.value)
    assert not any((tmp_path / "made").iterdir())


def test_a_table_is_evaluated_as_the_harness_does_its_yaml(tmp_path, capsys):
    """The accuracy is that of the same questions as a task of one's own; --output keeps what was written."""
    model = export(tmp_path / "model", dataclasses.replace(tiny.DECLLM, num_decoder_layers=1))
    rows = "".join(f"Is {n} odd?,yes,no,{'yes' if n % 2 else 'no'}\n" for n in range(6))
    (tmp_path / "odd.csv").write_text(HEADER + rows)
    columns = ("--question=question", "--choices=a,b", "--answer=answer")
    base = ["evaluate", f"--model={model}", f"--json={tmp_path / 'out.json'}", "--num_fewshot=1", "--max_length=200"]
    assert main([*base, f"--task_file={tmp_path / 'odd.csv'}", *columns, f"--output={tmp_path / 'kept'}"]) == 0
    assert "task odd, answers read as texts of choices" in capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())["models"][0]["results"]
    assert {one["metric"] for one in found} == {"acc", "acc_norm"} and found[0]["num_examples"] == 6
    written = yaml.safe_load((tmp_path / "kept" / "odd.yaml").read_text())
    assert written["output_type"] == "multiple_choice"
    (tmp_path / "out.answers.jsonl").unlink(missing_ok=True)
    assert main([*base, "--tasks=odd", f"--include_path={tmp_path / 'kept'}"]) == 0
    again = json.loads((tmp_path / "out.json").read_text())["models"][0]["results"]
    assert [(one["metric"], one["value"]) for one in again] == [(one["metric"], one["value"]) for one in found]
    assert main([*base, f"--task_file={tmp_path / 'odd.csv'}", *columns[:2]]) == 1
    assert "give --answer=COLUMN too" in capsys.readouterr().err
    assert main([*base, "--tasks=odd", "--answer=b"]) == 1
    assert "name it with --task_file=FILE" in capsys.readouterr().err


def test_tasks_in_the_folder_of_results_are_not_read(tmp_path, monkeypatch):
    """They may run code (!function), as tasks in an --include_path may, which the user trusts."""
    output, seen = tmp_path / "results", []
    output.mkdir()
    (output / "theirs.yaml").write_text("task: theirs\ndoc_to_text: !function theirs.run\n")
    (tmp_path / "own.csv").write_text("q,a,b,right\nIs it?,yes,no,yes\n")

    def run(args):
        seen.extend(args.include_path)
        assert [sorted(path.name for path in folder.iterdir()) for folder in seen] == [["own.jsonl", "own.yaml"]]
        return {}

    monkeypatch.setattr(few_shot, "_run_tasks", run)
    columns = ("--question=q", "--choices=a,b", "--answer=right")
    flags = ["evaluate", f"--model={tmp_path}", f"--task_file={tmp_path / 'own.csv'}", *columns, f"--output={output}"]
    assert main(flags) == 0 and len(seen) == 1
    assert sorted(path.name for path in output.iterdir()) == ["own.jsonl", "own.yaml", "theirs.yaml"]
    assert str(output / "own.jsonl") in (output / "own.yaml").read_text()

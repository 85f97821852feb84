"""Names of tasks, told from files alone."""

from __future__ import annotations

import pytest

from triarch.errors import UserError
from triarch.evaluation.few_shot import check_names
from triarch.evaluation.few_shot.names import names_in

FILES = {
    "one.yaml": "tag:\n  - words\n  - 'more_words'\ntask: first\ninclude: base_yaml\n",
    "deeper/two.yaml": '"task": "second"\n"tag": [left, right]\ndescription: "x\\ntask: no"\n',
    "group.yaml": "group: both\ntask:\n  - first\n  - second\nmetadata:\n  task: not this\n",
    "base_yaml": "tag: based\n",
    "plain": "tag: plain\n",
    "notes.txt": "task: none\n",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_names_in_files(folder):
    expected = {"words", "more_words", "first", "second", "left", "right", "both", "based", "plain"}
    assert set(names_in(folder)) == expected


def test_folders_and_files_of_ones_own(folder):
    check_names(["first", "both", "left", str(folder / "one.yaml")], [folder], None)
    check_names(["copa", "first"], [folder], folder)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        check_names(["first"], [folder / "nowhere"], None)


@pytest.mark.slow
def test_none_of_the_harness_is_missed():
    manager = pytest.importorskip("lm_eval.tasks").TaskManager()
    check_names(manager.all_tasks, [], None)
    with pytest.raises(UserError, match=r"no task 'hellaswagg' \(did you mean 'hellaswag'"):
        check_names(["hellaswagg"], [], None)

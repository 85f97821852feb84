"""Answers outlive the process that gave them."""

from __future__ import annotations

import json

import pytest

from triarch.errors import UserError
from triarch.evaluation.few_shot.answers import Answers

IDENTITY = {"model": [1, 2], "reading": {"max_length": 8}}


def test_answers_are_there_again(tmp_path):
    path = tmp_path / "answers.jsonl"
    with Answers(path, IDENTITY) as answers:
        answers.add("loglikelihood", ("a", "b"), [-1.25, True])
        answers.add("generate_until", ("a", {"until": ["x"], "n": 1}), "text\n")
    with Answers(path, IDENTITY) as answers:
        assert answers.get("loglikelihood", ["a", "b"]) == [-1.25, True]
        assert answers.get("generate_until", ("a", {"n": 1, "until": ["x"]})) == "text\n"
        assert answers.get("loglikelihood_rolling", ("a", "b")) is None
        assert len(answers) == 2


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_is_not_whole_is_cut_off(cut, tmp_path):
    path = tmp_path / "answers.jsonl"
    with Answers(path, IDENTITY) as answers:
        answers.add("loglikelihood", "first", 1.0)
        whole = path.stat().st_size
        answers.add("loglikelihood", "second", 2.0)
    path.write_bytes(path.read_bytes()[:-cut])
    with Answers(path, IDENTITY) as answers:
        assert answers.get("loglikelihood", "first") == 1.0 and answers.get("loglikelihood", "second") is None
        assert path.stat().st_size == whole
        answers.add("loglikelihood", "second", 3.0)
    with Answers(path, IDENTITY) as answers:
        assert answers.get("loglikelihood", "second") == 3.0


def test_a_header_that_is_not_whole_begins_anew(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"format": "triarch.ans')
    with Answers(path, IDENTITY) as answers:
        answers.add("loglikelihood", "first", 1.0)
    assert json.loads(path.read_text().splitlines()[0])["format"] == "triarch.answers"


def test_without_a_file_answers_are_known_all_the_same():
    with Answers(None, IDENTITY) as answers:
        answers.add("loglikelihood", "first", 1.0)
        assert answers.get("loglikelihood", "first") == 1.0


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "answers.jsonl"
    with Answers(path, IDENTITY), pytest.raises(UserError, match="another evaluation is writing"):
        Answers(path, IDENTITY)
    with pytest.raises(UserError, match="under another model"):
        Answers(path, IDENTITY | {"model": [1, 3]})
    for text in ('{"format": "other"}\n', "words\n", "words", "[1]\n", "a\nb", "[" * 10**5 + "\n"):
        (tmp_path / "other").write_text(text)
        with pytest.raises(UserError, match="not a file of answers"):
            Answers(tmp_path / "other", IDENTITY)
        assert (tmp_path / "other").read_text() == text
    header, _ = path.read_text().split("\n")
    key = "0" * 64
    for line in (
        "5",
        "{}",
        f'["{key}"]',
        f'["{key}", null]',
        f'["{key}", ["a", true]]',
        '["a", 1]',
        f'["{key}", [1, "b"]]',
    ):
        (tmp_path / "other").write_text(f"{header}\n{line}\n")
        with pytest.raises(UserError, match="other: not a file of answers: line 2"):
            Answers(tmp_path / "other", IDENTITY)
    with pytest.raises(UserError, match="No such file"):
        Answers(tmp_path / "missing" / "answers", IDENTITY)

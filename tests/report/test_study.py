"""Study folders: what is read, and one clear line for whatever is missing or misshapen."""

import json
import math

import numpy as np
import pytest

from tests.report.study_folder import ERROR, SHIFT, loss_of, read_table, write_study, write_table
from triarch.errors import UserError
from triarch.report.study import ScoredCorpus, read_study


@pytest.fixture
def folder(tmp_path):
    return write_study(tmp_path / "study")


def test_reads_what_was_written(folder):
    study = read_study(folder)
    assert study.families == ("redllm", "decllm", "ettin_encoder")
    assert study.label("redllm") == "RedLLM" and study.label("ettin_encoder") == "ettin_encoder"
    run = study.of_family("decllm")[1]
    assert run.name == "decllm-4m" and run.comparable_scoring() == "paired"
    value, error = run.score(ScoredCorpus("prose", "out_of_domain"))
    assert value == pytest.approx(loss_of("decllm", 4e6) + SHIFT) and error == pytest.approx(ERROR)
    assert list(run.metrics["step"][:3]) == [10, 20, 30] and "decoder-only" in run.config
    assert study.of_family("ettin_encoder")[0].comparable_scoring() == "pseudo_likelihood"


def test_domains_of_a_corpus_are_averaged_and_corpora_of_a_role_kept_apart(folder):
    rows = [row | {"corpus": row["domain"]} for row in read_table(folder / "evaluations.csv")]
    first = next(row for row in rows if row["run"] == "decllm-1m" and row["scoring"] == "paired")
    rows.append(first | {"domain": "more_code", "nats_per_token": float(first["nats_per_token"]) + 1.0})
    test = first | {"corpus": "code_test", "domain": "code_test", "nats_per_token": 7.0, "share": 0.25, "seed": 3}
    rows = [{"share": "", "seed": ""} | row for row in (*rows, test)]
    write_table(folder / "evaluations.csv", rows)
    study = read_study(folder)
    assert [corpus.title for corpus in study.corpora] == [
        "In-domain: code", "In-domain: code_test", "Out-of-domain: prose",
    ]  # fmt: skip
    assert study.main_corpus == study.corpora[0]
    run = study.of_family("decllm")[0]
    assert run.score(study.corpora[1]) == (7.0, pytest.approx(ERROR))
    assert [(e.share, e.made_with) for e in run.evaluations if e.corpus == "code_test"] == [(0.25, "seed 3")]
    value, error = run.score(study.main_corpus)
    assert value == pytest.approx(loss_of("decllm", 1e6) + 0.5)
    assert error == pytest.approx(ERROR / math.sqrt(2))


def test_steps_logged_twice_count_once_with_the_last_value(folder):
    path = folder / "runs" / "decllm-1m" / "metrics.jsonl"
    entry = json.loads(path.read_text().splitlines()[0])
    with path.open("a") as file:
        file.write(json.dumps(entry | {"loss": 9.0}) + "\n")
    metrics = read_study(folder).of_family("decllm")[0].metrics
    assert metrics["loss"][0] == 9.0 and np.all(np.diff(metrics["step"]) > 0)


def test_a_failed_run_may_lack_numbers_metrics_and_scores(folder):
    rows = read_table(folder / "results.csv")
    rows[0] |= {"status": "failed", "final_train_loss": "", "flops_train": ""}
    write_table(folder / "results.csv", rows)
    for path in (folder / "runs" / rows[0]["run"]).iterdir():
        path.unlink()
    study = read_study(folder)
    assert len(study.of_family("redllm")) == 2 and not study.runs[0].finished


def edit_facts(folder, **changes):
    facts = json.loads((folder / "study.json").read_text())
    facts.update(changes)
    (folder / "study.json").write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))


def edit_first(folder, table, **changes):
    rows = read_table(folder / table)
    rows[0] |= changes
    write_table(folder / table, rows)


def edit_metrics(folder, text):
    (folder / "runs" / "redllm-1m" / "metrics.jsonl").write_text(text)


GOOD_LINE = '{"step": 1, "loss": 2, "tokens": 5, "flops_paper": 1, "flops_train": 1}\n'


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "study.json").unlink(), r"study\.json: no such file"),
        (lambda f: (f / "study.json").write_text("{"), r"study\.json: not JSON"),
        (lambda f: (f / "study.json").write_text("[]"), r"study\.json: expected a JSON object"),
        (lambda f: edit_facts(f, question=None), r"study\.json: no key 'question'"),
        (lambda f: edit_facts(f, seconds="long"), r"'seconds' is 'long', expected a number"),
        (lambda f: edit_facts(f, commands=[1]), r"'commands' holds something that is not text"),
        (lambda f: (f / "results.csv").unlink(), r"results\.csv: no such file"),
        (lambda f: edit_first(f, "results.csv", num_params="many"), r"results\.csv, row 1 .*num_params is 'many'"),
        (
            lambda f: edit_first(f, "results.csv", seconds=""),
            r"row 1 .*seconds is empty, but run 'redllm-1m' is finished",
        ),
        (lambda f: edit_first(f, "results.csv", run="redllm-4m"), r"row 2 .*run 'redllm-4m' stands there twice"),
        (lambda f: edit_first(f, "results.csv", run="../x"), r"row 1 .*expected a plain folder name"),
        (lambda f: edit_first(f, "evaluations.csv", scoring="pared"), r"evaluations\.csv, row 1 .*'pared'.*'paired'"),
        (lambda f: edit_first(f, "evaluations.csv", run="redllm-2m"), r"unknown run 'redllm-2m' \(did you mean"),
        (lambda f: edit_first(f, "evaluations.csv", nats_per_token="nan"), r"row 1 .*nats_per_token is 'nan'"),
        (lambda f: edit_metrics(f, ""), r"metrics\.jsonl: empty"),
        (lambda f: edit_metrics(f, GOOD_LINE + "{oops"), r"metrics\.jsonl, line 2: not JSON"),
        (lambda f: edit_metrics(f, GOOD_LINE.replace("tokens", "token")), r"line 1: no key 'tokens'.*'token'"),
        (
            lambda f: edit_metrics(f, GOOD_LINE.replace('"loss": 2', '"loss": NaN')),
            r"line 1: not read: NaN is no finite number",
        ),
        (lambda f: (f / "runs" / "redllm-1m" / "config.gin").unlink(), r"config\.gin: no such file"),
    ],
)
def test_damage_is_one_line_naming_the_file(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        read_study(folder)
    assert "\n" not in str(error.value)


def test_a_study_without_a_finished_run_is_refused(folder):
    rows = [row | {"status": "failed"} for row in read_table(folder / "results.csv")]
    write_table(folder / "results.csv", rows)
    with pytest.raises(UserError, match="no run has status 'finished'"):
        read_study(folder)


def test_a_missing_folder_names_the_nearest(folder):
    with pytest.raises(UserError, match=r"no such study folder \(did you mean 'study'\?\)"):
        read_study(folder.parent / "studdy")

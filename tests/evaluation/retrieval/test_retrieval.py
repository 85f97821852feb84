"""Collections, measures and exact search against pytrec_eval, float64 numpy, and the command line."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import triarch
from tests.cli.verbs.test_embed import write_model
from triarch.cli.main import main
from triarch.errors import UserError
from triarch.evaluation.retrieval.beir import read_collection
from triarch.evaluation.retrieval.metrics import interval, measured
from triarch.evaluation.retrieval.search import nearest_passages

PASSAGES = {"d1": "apples are red", "d2": "bananas are yellow", "d10": "the sky is blue", "d3": ""}
QUERIES = {"q1": "red apples", "q2": "blue sky", "q3": "nobody judged this one"}
QRELS = [("q1", "d1", 2), ("q1", "d2", 1), ("q1", "d3", 0), ("q2", "d10", 1)]


def write(folder, passages=None, queries=None, qrels=None):
    (folder / "qrels").mkdir(parents=True)
    lines = [{"_id": name, "title": "", "text": text} for name, text in (passages or PASSAGES.items())]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    lines = [{"_id": name, "text": text} for name, text in (queries or QUERIES.items())]
    (folder / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [("query-id", "corpus-id", "score"), *(qrels or QRELS)]
    (folder / "qrels" / "test.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return folder


def test_measures_are_those_of_their_definitions():
    found = measured(["a", "x", "b"], {"a": 1, "b": 3, "c": 2, "x": 0, "y": -1})
    gain = 1 / math.log2(2) + 3 / math.log2(4)
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert found == pytest.approx({"ndcg@10": gain / ideal, "mrr@10": 1.0, "recall@100": 2 / 3})
    assert measured(["x"] * 10 + ["a"], {"a": 1})["mrr@10"] == 0


def test_measures_are_those_of_trec_eval():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    rng = np.random.default_rng(0)
    qrels = {f"q{i}": {f"d{j}": int(rng.integers(0, 4)) for j in rng.choice(300, 40, replace=False)} for i in range(20)}
    runs = {query: {f"d{j}": float(300 - rank) for rank, j in enumerate(rng.permutation(300)[:120])} for query in qrels}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100"}).evaluate(runs)
    for query, run in runs.items():
        ours = measured(sorted(run, key=run.__getitem__, reverse=True), qrels[query])
        assert ours["ndcg@10"] == pytest.approx(theirs[query]["ndcg_cut_10"], abs=1e-9)
        assert ours["recall@100"] == pytest.approx(theirs[query]["recall_100"], abs=1e-9)


def test_intervals_hold_the_mean_and_shrink_with_queries():
    rng = np.random.default_rng(0)
    few, many = (rng.uniform(size=count) for count in (20, 2000))
    for values in (few, many):
        low, high = interval(values)
        assert low < values.mean() < high
        standard = values.std() / math.sqrt(len(values))
        assert high - low == pytest.approx(2 * 1.96 * standard, rel=0.15)


def test_search_is_exact_over_blocks_with_ties_in_order(monkeypatch):
    monkeypatch.setattr("triarch.evaluation.retrieval.search._PASSAGES", 8)
    monkeypatch.setattr("triarch.evaluation.retrieval.search._QUERIES", 4)
    rng = np.random.default_rng(0)
    passages = rng.integers(-2, 3, size=(37, 3)).astype(np.float32)
    queries = rng.integers(-2, 3, size=(9, 3)).astype(np.float32)
    found, scores = nearest_passages(queries, passages, 20)
    exact = queries @ passages.T
    wanted = np.argsort(-exact, axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(scores, np.take_along_axis(exact, wanted, 1))
    assert nearest_passages(queries, passages[:5], 20)[0].shape == (9, 5)


def test_from_a_folder_to_measures(tmp_path, capsys):
    folder, model = write(tmp_path / "fruit"), write_model(tmp_path / "model", "encoder-only")
    result = tmp_path / "result.json"
    flags = [f"--model={model}", f"--retrieval={folder}", "--pooling=last", f"--json={result}"]
    assert main(["evaluate", *flags, "--query_prompt=q: "]) == 0
    found = json.loads(result.read_text())
    ours = triarch.load(model)
    embedded = {name: ours.embed(text, pooling="last", normalize=True) for name, text in PASSAGES.items() if text}
    embedded["d3"] = np.zeros(ours.config.d_model)
    values = []
    for query in ("q1", "q2"):
        vector = ours.embed("q: " + QUERIES[query], pooling="last", normalize=True)
        ranked = sorted(embedded, key=lambda name: -float(vector @ embedded[name]))
        grades = {passage: grade for own, passage, grade in QRELS if own == query}
        values.append(measured(ranked, grades))
    for name in values[0]:
        assert found[name] == pytest.approx(np.mean([one[name] for one in values]))
    assert found["intervals"]["ndcg@10"][0] <= found["ndcg@10"] <= found["intervals"]["ndcg@10"][1]
    assert (found["num_queries"], found["num_passages"]) == (2, 4)
    assert "ndcg@10" in capsys.readouterr().out


def test_bm25_finds_the_words(tmp_path):
    pytest.importorskip("bm25s")
    from triarch.evaluation.retrieval.evaluation import evaluate_bm25

    found = evaluate_bm25(read_collection(write(tmp_path / "fruit")))
    assert found.by_query["q2"] == {"ndcg@10": 1, "mrr@10": 1, "recall@100": 1}


@pytest.mark.parametrize(
    "changed, message",
    [
        (dict(qrels=[("q1", "d9", 1)]), "test.tsv:2: the id 'd9' is not in the corpus"),
        (dict(qrels=[("q9", "d1", 1)]), "test.tsv:2: the id 'q9' is not in queries"),
        (dict(qrels=[("q1", "d1", 0)]), "query 'q1' has no relevant passage"),
        (dict(qrels=[("q1", "d1", 1), ("q1", "d1", 1)]), "test.tsv:3: query 'q1' and passage 'd1' are judged twice"),
        (dict(qrels=[("q1", "d1", "much")]), "score = 'much': expected a whole number"),
        (dict(passages=[("d1", "a"), ("d1", "b")]), "corpus.jsonl:2: the id 'd1' is there twice"),
        (dict(queries=[("q1", " ")]), "queries.jsonl:1: query 'q1' is empty"),
    ],
)
def test_a_collection_that_is_not_in_order_is_one_line(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        read_collection(write(tmp_path / "fruit", **changed))


def test_a_collection_that_lacks_a_file_is_one_line(tmp_path):
    folder = write(tmp_path / "fruit")
    with pytest.raises(UserError, match=r"no split 'tset' \(did you mean 'test'"):
        read_collection(folder, "tset")
    (folder / "queries.jsonl").unlink()
    with pytest.raises(UserError, match=r"holds no queries.jsonl"):
        read_collection(folder)
    (folder / "qrels" / "test.tsv").unlink()
    with pytest.raises(UserError, match=r"holds no judgements: expected qrels/test.tsv"):
        read_collection(folder)


def test_similarity_is_spearmans(tmp_path, capsys):
    scipy_stats = pytest.importorskip("scipy.stats")
    model = write_model(tmp_path / "model", "decoder-only")
    rows = [("one", "two", 1.0), ("a b c", "a b d", 4.5), ("same", "same", 5), ("sky", "a longer text", 0)]
    file, result = tmp_path / "pairs.tsv", tmp_path / "result.json"
    file.write_text("a\tb\tscore\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    flags = ["evaluate", f"--model={model}", f"--similarity={file}", f"--json={result}"]
    assert main([*flags, "--similarity_fields=a,b,score"]) == 0
    ours = triarch.load(model)
    first, second = (ours.embed([row[side] for row in rows], normalize=True) for side in (0, 1))
    wanted = scipy_stats.spearmanr((first * second).sum(1), [row[2] for row in rows]).statistic
    assert json.loads(result.read_text())["spearman"] == pytest.approx(wanted, abs=1e-6)
    capsys.readouterr()
    assert main(flags) == 1
    assert "no column 'sentence1'" in capsys.readouterr().err

"""mteb's own tasks, on local files, measure what `triarch evaluate --retrieval` does."""

from __future__ import annotations

import json

import numpy as np
import pytest

import triarch
from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.encoders import test_bert
from tests.tokenizers import huggingface
from triarch.cli.main import main
from triarch.errors import UserError

mteb = pytest.importorskip("mteb")
pytestmark = pytest.mark.slow


def _folder(path):
    """A collection of 40 passages and 12 queries, each of words of its passage."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("brownfximp"), 4)) for _ in range(30)]
    texts = [[*rng.choice(words, 6)] for _ in range(40)]
    (path / "qrels").mkdir(parents=True)
    rows = [{"_id": f"d{n}", "title": text[0], "text": " ".join(text[1:])} for n, text in enumerate(texts)]
    (path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [{"_id": f"q{n}", "text": " ".join(texts[n][:2])} for n in range(12)]
    (path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    judged = [f"q{n}\td{n}\t2\nq{n}\td{n + 20}\t1" for n in range(12)]
    (path / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n")
    return path


def test_mteb_measures_the_same(tmp_path):
    pytest.importorskip("transformers")
    from triarch.evaluation.retrieval.mteb_models import MtebEncoder, local_task

    body = huggingface.write_folder(tmp_path / "bert", "bert", tokenizer_config={"model_max_length": 32})
    options = test_bert.BASE | dict(vocab_size=huggingface.LAYOUTS["bert"]().get_vocab_size())
    parity.make("BertModel", "BertConfig", **options | dict(max_position_embeddings=32)).save_pretrained(body)
    folder = _folder(tmp_path / "collection")
    result = tmp_path / "result.json"
    assert main(["evaluate", f"--model={body}", f"--retrieval={folder}", f"--json={result}"]) == 0
    ours = json.loads(result.read_text())
    encoder = MtebEncoder(triarch.load(body))
    assert isinstance(encoder, mteb.models.EncoderProtocol)
    found = mteb.evaluate(encoder, local_task("SciFact", folder), cache=None, show_progress_bar=False)
    (scores,) = found.task_results[0].scores["test"]
    assert scores["ndcg_at_10"] == pytest.approx(ours["ndcg@10"], abs=1e-4)
    assert scores["recall_at_100"] == pytest.approx(ours["recall@100"], abs=1e-4)
    with pytest.raises(UserError, match=r"mteb has no task 'SciFacts' \(did you mean 'SciFact'"):
        local_task("SciFacts", folder)
    with pytest.raises(UserError, match="mteb's task STS12: expected one of retrieval with a split"):
        local_task("STS12", folder)

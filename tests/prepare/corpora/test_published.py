"""Each published corpus reads the folder it says, and says which one when it is not there."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import seqio
import zstandard

from triarch.errors import UserError
from triarch.prepare.corpora.named import CORPORA
from triarch.prepare.corpora.published import published_corpora
from triarch.prepare.pipeline import VocabularyChoice, prepare
from triarch.tasks.registry import corpus_of, get_task
from triarch.tokenizers import ByteTokenizer

# One file as it is downloaded, by task.
FILES = {
    "redpajama_arxiv": "redpajama_v1/arxiv/arxiv_023827cd-7ee8-42e6-aa7b-661731f4c70f.jsonl",
    "redpajama_book": "redpajama_v1/book/book.jsonl",
    "redpajama_c4": "redpajama_v1/c4/c4-train.00000-of-01024.jsonl",
    "redpajama_common_crawl": "redpajama_v1/common_crawl/2019-30/en_head_0000.json.gz.dedup.classifier.jsonl.zst",
    "redpajama_github": "redpajama_v1/github/filtered_08cdfa755e6d4d89b673d5bd1acee5f6.sampled.jsonl",
    "redpajama_stackexchange": "redpajama_v1/stackexchange/stackexchange.jsonl",
    "redpajama_wikipedia": "redpajama_v1/wikipedia/wiki.jsonl",
    "c4_en": "c4/en/c4-train.00000-of-01024.json.gz",
    "dolma_wiki": "dolma/wiki/wiki-0000.json.gz",
    "dolma_cc_en_head": "dolma/cc_en_head/cc_en_head-0000.json.gz",
    "paloma_c4_100_domains": "paloma/c4_100_domains/val/val_00_www.nytimes.com.jsonl.gz",
    "paloma_twitterAAE_HELM_fixed": "paloma/twitterAAE_HELM_fixed/val/val_AA.jsonl.gz",
    "wikipedia_en": "wikipedia/20231101.en/train-00000-of-00041.parquet",
    "flan": "flan/flan_train.jsonl.gz",
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for task, name in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True)
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(pa.table({"title": ["x"], "text": [f"text of {task}"]}), path)
            continue
        record = {"inputs": "a question", "targets": "an answer"} if task == "flan" else {"text": f"text of {task}"}
        line = f"{json.dumps(record)}\n".encode()
        path.write_bytes({".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)(line))
    return folder


@pytest.mark.parametrize("task", FILES)
def test_each_reads_its_folder(data_dir, monkeypatch, task):
    monkeypatch.setenv("TRIARCH_DATA_DIR", str(data_dir))
    (document,) = CORPORA[task].documents()
    assert document.whole == ("a question\nan answer" if task == "flan" else f"text of {task}")
    (file,) = CORPORA[task].provenance()["files"]
    assert file["name"] == str(data_dir / FILES[task]) and CORPORA[task].size == file["size"]


def test_all_of_them():
    names = list(published_corpora())
    assert sum(name.startswith("redpajama_") for name in names) == 7
    assert sum(name.startswith("paloma_") for name in names) == 16
    assert sum(name.startswith("dolma_") for name in names) == 19
    assert {"c4_en", "wikipedia_en", "flan"} <= set(names)


@pytest.mark.parametrize("task", FILES)
def test_what_is_missing_is_named(tmp_path, monkeypatch, task):
    monkeypatch.delenv("TRIARCH_DATA_DIR", raising=False)
    with pytest.raises(UserError, match=r"expected at DATA_DIR/.*: give the folder with --data_dir=DATA_DIR or in the"):
        next(CORPORA[task].documents())
    monkeypatch.setenv("TRIARCH_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=rf"{tmp_path}/.*: no such files: download .* there"):
        next(CORPORA[task].documents())


def test_seqio_finds_the_tasks(data_dir, monkeypatch):
    monkeypatch.setenv("TRIARCH_DATA_DIR", str(data_dir))
    for task in ("redpajama_common_crawl", "wikipedia_en"):
        assert corpus_of(get_task(task)) is CORPORA[task]
        dataset = seqio.get_mixture_or_task(task).get_dataset(None, split="train", shuffle=False)
        (example,) = dataset.as_numpy_iterator()
        np.testing.assert_array_equal(example["targets"], [*ByteTokenizer().encode(f"text of {task}"), 1])


def test_flan_has_inputs_and_targets_in_seqio(data_dir, monkeypatch):
    monkeypatch.setenv("TRIARCH_DATA_DIR", str(data_dir))
    (example,) = seqio.get_mixture_or_task("flan").get_dataset(None, split="train", shuffle=False).as_numpy_iterator()
    for name, text in {"inputs": "a question", "targets": "an answer"}.items():
        np.testing.assert_array_equal(example[name], [*ByteTokenizer().encode(text), 1])


def test_prepare_reads_them(data_dir, monkeypatch, tmp_path):
    monkeypatch.setenv("TRIARCH_DATA_DIR", str(data_dir))
    store = prepare(CORPORA["flan"], "flan", tmp_path / "store", VocabularyChoice("bytes"), 8, 0.0, workers=1)
    assert store.manifest.source["origin"].startswith("the FLAN collection")
    text = ByteTokenizer().decode(np.concatenate([store.split("train")[index]["tokens"] for index in range(2)]))
    assert text == "a question\nan an"[:16]


def test_flans_pairs_are_what_seqio_reads(data_dir, monkeypatch, tmp_path):
    """The features that SeqIO's converters start from, example by example."""
    monkeypatch.setenv("TRIARCH_DATA_DIR", str(data_dir))
    lengths = {"inputs": 2048, "targets": 512}
    store = prepare(
        CORPORA["flan"],
        "flan",
        tmp_path / "store",
        VocabularyChoice("bytes"),
        1,
        0.0,
        1,
        layout="pairs",
        lengths=lengths,
    )
    dataset = seqio.get_mixture_or_task("flan").get_dataset(lengths, split="train", shuffle=False)
    for example, reference in zip([store.split("train")[0]], dataset.as_numpy_iterator(), strict=True):
        assert example.keys() == reference.keys()
        for name in example:
            np.testing.assert_array_equal(example[name], reference[name])

"""Texts with labels: framed as transformers frames them, every format alike, bad rows in one clear line."""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from triarch.cli.main import main
from triarch.data.checking import find_damage
from triarch.data.store import TokenStore

tokenizers = pytest.importorskip("tokenizers")

WORDS = ["the", "film", "is", "good", "bad", "a", "of", "and", "very", "it", "was", ",", ".", "not"]
ROWS = [
    ("the film is good", "it was good", 1),
    ("the film is bad .", "a very bad film , not good , and not very good", 0),
    ("very very good", "it was bad", 1),
    ("bad of", "good of", 0),
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """A folder with a small BERT tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ids = {token: index for index, token in enumerate([*special, *WORDS, "##s"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **names}))
    return folder


def prepare(vocabulary, files, output, *flags):
    """Runs `triarch prepare --layout=labelled`; returns its exit status."""
    return main(
        [
            *("prepare", "--task=files", "--layout=labelled", "--label_field=label", "--text_field=one"),
            *(f"--vocabulary={vocabulary}", f"--files={files}", f"--output={output}", "--window=12"),
            *(flags or ("--validation_fraction=0",)),
        ]
    )


def write(path, rows=ROWS):
    """Writes rows in the format that a path's name says."""
    named = [dict(zip(("one", "two", "label"), row, strict=True)) for row in rows]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(named), path)
        return path
    plain = path.name.removesuffix(".gz")
    if plain.endswith(".jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in named)
    elif plain.endswith(".tsv"):
        text = "one\ttwo\tlabel\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows)
    else:
        text = "one,two,label\n" + "".join(f'"{one}","{two}",{label}\n' for one, two, label in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["rows.tsv", "rows.csv.gz", "rows.jsonl", "rows.parquet"])
def test_every_format_makes_the_same_examples(name, vocabulary, tmp_path):
    assert prepare(vocabulary, write(tmp_path / name), tmp_path / "store", "--pair_field=two",
                   "--validation_fraction=0") in (0, None)  # fmt: skip
    store = TokenStore.open(tmp_path / "store")
    assert (store.manifest.labels.kind, store.manifest.labels.names) == ("classes", ("0", "1"))
    assert not list(find_damage(store))
    reader = store.split("train")
    assert [int(reader[index]["label"]) for index in range(4)] == [1, 0, 1, 0]
    library = tokenizers.Tokenizer.from_file(str(vocabulary / "tokenizer.json"))
    library.enable_truncation(12)
    for index, (one, two, _) in enumerate(ROWS):
        wanted, example = library.encode(one, two), reader[index]
        real = example["segment_ids"] > 0
        assert example["tokens"][real].tolist() == wanted.ids
        assert (example["segment_ids"][real] - 1).tolist() == wanted.type_ids
    assert store.manifest.source["cut_documents"] == 1
    pieces = store.provenance("train").pieces(np.array([2]))
    assert pieces.record.tolist() == [4 if name.endswith(("tsv", "gz")) else 3]


def test_names_splits_and_numbers(vocabulary, tmp_path):
    rows = [("good", "", "pos"), ("bad", "", "neg"), ("not good", "", "neg")]
    write(tmp_path / "train.jsonl", rows), write(tmp_path / "dev.jsonl", rows[:2])
    flags = (f"--split_files=validation={tmp_path}/dev.jsonl", "--label_names=pos,neg,other")
    assert prepare(vocabulary, tmp_path / "train.jsonl", tmp_path / "named", *flags) in (0, None)
    store = TokenStore.open(tmp_path / "named")
    assert store.manifest.labels.names == ("pos", "neg", "other")
    assert [int(store.split("train")[index]["label"]) for index in range(3)] == [0, 1, 1]
    assert len(store.split("validation")) == 2
    write(tmp_path / "values.tsv", [("good", "x", 4.5), ("bad", "x", 0.25)])
    assert prepare(vocabulary, tmp_path / "values.tsv", tmp_path / "values", "--regression",
                   "--validation_fraction=0") in (0, None)  # fmt: skip
    label = TokenStore.open(tmp_path / "values").split("train")[0]["label"]
    assert label == np.float32(4.5) and label.dtype == np.float32


def test_words_have_labels_at_their_first_tokens(vocabulary, tmp_path):
    rows = [{"one": ["the", "films", "is", "good"], "label": ["O", "B", "O", "O"]}, {"one": ["bad"], "label": ["B"]}]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert prepare(vocabulary, tmp_path / "words.jsonl", tmp_path / "store") in (0, None)
    store = TokenStore.open(tmp_path / "store")
    assert (store.manifest.labels.kind, store.manifest.labels.names) == ("token_classes", ("B", "O"))
    example = store.split("train")[0]
    ids = [store_id for store_id in example["tokens"] if store_id]
    # [CLS] the film ##s is good [SEP]
    assert len(ids) == 7 and example["label"][:7].tolist() == [-100, 1, 0, -100, 1, 1, -100]
    assert (example["label"][7:] == -100).all()


GOOD = [("good", "x", 1), ("bad", "x", 0)]
BAD = {
    "a missing label": ([*GOOD, ("good", "x", "")], (), r"rows.tsv:4: field 'label' has no label"),
    "one that is not named": (
        [*GOOD, ("good", "x", 2)],
        ("--label_names=no,yes",),
        r"rows.tsv:4: label '2' in 'label': expected one of no, yes",
    ),
    "a fraction": (
        [*GOOD, ("good", "x", 0.5)],
        (),
        r"rows.tsv:4: field 'label' is 0.5, a number where classes are exp",
    ),
    "a word for a number": (
        [*GOOD, ("good", "x", "much")],
        ("--regression",),
        r"rows.tsv:4: .* 'much', expected a num",
    ),
    "one class": ([GOOD[0], GOOD[0]], (), r"label: one class only \('1'\) in 2 labels: expected at least two"),
    "a negative one": ([*GOOD, ("good", "x", -1)], (), r"rows.tsv:4: label -1 in 'label': expected 0 or more"),
    "an empty pair": ([*GOOD, ("good", " ", 1)], ("--pair_field=two",), r"rows.tsv:4: field 'two' is empty"),
    "no such column": (GOOD, ("--pair_field=three",), r"rows.tsv:1: no column 'three'.*one, two, label"),
    "too few cells": ([*GOOD, ("good",)], (), r"rows.tsv:4: has 1 cells, expected 3: one, two, label"),
    "both kinds": (GOOD, ("--regression", "--label_names=a,b"), "--regression beside --label_names"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_one_clear_line(name, vocabulary, tmp_path, capsys):
    rows, flags, message = BAD[name]
    text = "one\ttwo\tlabel\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows)
    (tmp_path / "rows.tsv").write_text(text)
    assert prepare(vocabulary, tmp_path / "rows.tsv", tmp_path / "store", "--validation_fraction=0", *flags)
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0, error
    assert re.search(message, error), error
    assert not (tmp_path / "store").exists()


def test_bad_rows_may_be_left_out(vocabulary, tmp_path):
    rows = [*GOOD, ("good", "x", ""), ("", "x", 1), ("good", "x", 0.5)]
    write(tmp_path / "rows.tsv", rows)
    flags = ("--validation_fraction=0", "--skip_bad_records")
    assert prepare(vocabulary, tmp_path / "rows.tsv", tmp_path / "store", *flags) in (0, None)
    manifest = TokenStore.open(tmp_path / "store").manifest
    assert manifest.splits["train"].examples == 2
    assert {reason: entry["count"] for reason, entry in manifest.source["left_out"].items()} == {
        "no label": 1,
        "empty": 1,
        "not a class": 1,
    }

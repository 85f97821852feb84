"""A document's split depends on its key alone, unless it is held out by name."""

import json

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from triarch.cli.main import main
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.prepare.corpora.documents import Document
from triarch.prepare.corpora.origins import named
from triarch.prepare.corpora.splits import Splitting, split_names, split_of


def test_fraction_is_met():
    held_out = sum(split_of(f"document {index}", 0.1) == "validation" for index in range(10_000))
    assert abs(held_out - 1000) < 4 * (10_000 * 0.1 * 0.9) ** 0.5


@given(key=st.text(), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_larger_fraction_keeps_what_was_held_out(key, low, high):
    low, high = sorted((low, high))
    assert split_of(key, low) == "train" or split_of(key, high) == "validation"
    assert split_of(key, 0) == "train" and split_of(key, 1) == "validation"


def test_known_keys():
    """Fixed for ever: another hash would move documents of existing stores between splits."""
    assert [key for key in map(str, range(100)) if split_of(key, 0.05) == "validation"] == ["29", "72", "90", "99"]


def test_names():
    assert split_names(0) == ("train",) and split_names(1) == ("validation",)
    assert split_names(0.5) == ("train", "validation")
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="from 0 to 1"):
            split_names(fraction)


def _named(source, record=-1, own_id=None):
    return Document("text", "text", 1, origin=named(source, record), id=own_id)


@pytest.mark.parametrize(
    ("pattern", "document"),
    [
        ("books/austen_emma.txt", _named("books/austen_emma.txt", 1)),
        ("austen_*", _named("books/austen_emma.txt", 1)),
        ("austen_emma", _named("books/austen_emma.txt.gz", 1)),
        ("books/*.jsonl:7", _named("books/all.jsonl", 7)),
        ("cg2[2-4]", _named("books/all.jsonl", 8, "cg23")),
    ],
)
def test_documents_are_held_out_by_file_or_id(pattern, document):
    splitting = Splitting(0.0, ("nothing*", pattern))
    assert splitting.names == ("train", "test")
    assert splitting.of(document) == "test"
    assert splitting.of(_named("books/carroll_alice.txt", 1, "cg3")) == "train"
    assert Splitting(1.0).names == ("validation",) and Splitting(1.0).of(document) == "validation"


def test_a_store_with_documents_held_out_by_name(tmp_path, capsys):
    """Of JSON lines and of Parquet: by the records' own ids; the vocabulary is trained on what is trained on."""
    rows = [{"id": f"d{index}", "text": f"document {index} of some words "} for index in range(40)]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "all.parquet")
    for kind in ("jsonl", "parquet"):
        output = tmp_path / f"{kind}_store"
        arguments = ["prepare", "--task=files", f"--files={tmp_path / f'all.{kind}'}", "--vocabulary=bytes"]
        arguments += ["--window=16", "--workers=1", "--validation_fraction=0.2", f"--output={output}"]
        assert main([*arguments, "--hold_out=d1?", "--hold_out=d7"]) == 0
        manifest = TokenStore.open(output).manifest
        assert list(manifest.splits) == ["test", "train", "validation"]
        assert manifest.splits["test"].documents == 11 and manifest.source["hold_out"] == ["d1?", "d7"]
        assert sum(split.documents for split in manifest.splits.values()) == 40
        test = TokenStore.open(output).split("test")
        text = bytes(token - 3 for index in range(len(test)) for token in test[index]["tokens"] if token > 2).decode()
        assert "document 7 of" in text and "document 10 of" in text and "document 1 of" not in text
        assert main([*arguments, "--hold_out=d7", "--hold_out=e*", "--overwrite"]) == 1
        assert "--hold_out=e*: no file name and no id matches" in capsys.readouterr().err

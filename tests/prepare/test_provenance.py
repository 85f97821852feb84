"""Every example's tokens are those of the documents it is said to be made of, read anew from their files."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.prepare.provenance import retokenized, same_tokens, texts_at
from tests.tokenizers.texts import HARD_TEXTS
from triarch.data import tables
from triarch.data import writer as writers
from triarch.data.manifest import FILE_NAME
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.prepare import tokenization
from triarch.prepare.corpora.files import Files
from triarch.prepare.corpora.selection import Filters
from triarch.prepare.pipeline import VocabularyChoice, prepare
from triarch.tokenizers import load_tokenizer

BYTES = VocabularyChoice("bytes")
LENGTHS = {"inputs": 12, "targets": 30}


@pytest.fixture(autouse=True)
def _many_small_parts(monkeypatch):
    """Chunks of a few documents, row groups and files of a few rows, of which few stay in memory."""
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 200)
    monkeypatch.setattr(writers, "_FILE_ROWS", 21)
    monkeypatch.setattr(tables.TableFormat, "block_records", 7)
    monkeypatch.setattr(tables, "_KEPT_GROUPS", 4)


def _texts(count=40):
    draw = random.Random(0)
    return [draw.choice(HARD_TEXTS) + "word " * draw.randint(0, 25) + str(draw.randint(0, 9)) for _ in range(count)]


def _write(path, texts):
    """The texts in a file of its format, a bad line and blank ones among them where it has lines."""
    lines = [json.dumps({"q": f"q{n}" * (n % 9), "text": t}, ensure_ascii=n % 2) for n, t in enumerate(texts)]
    lines[3:3] = ["", "no JSON", '{"q": "x", "text": ""}']
    if path.suffix == ".parquet":
        table = pa.table({"q": [f"q{n}" * (n % 9) for n in range(len(texts))], "text": texts})
        pyarrow.parquet.write_table(table, path, row_group_size=11)
        return str(path)
    data = "\r\n".join(lines) if ".jsonl" in path.name else "\n\n \n".join(texts) + "\nend\n\n\n"
    raw = data.encode()
    if path.suffix == ".gz":
        raw = gzip.compress(raw[:99]) + gzip.compress(raw[99:])
    path.write_bytes(zstandard.compress(raw) if path.suffix == ".zst" else raw)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    texts = _texts()
    names = ["a.jsonl", "b.jsonl.gz", "c.txt.gz", "d.parquet", "e.jsonl.zst", "f.txt"]
    parts = [texts[:12], texts[12:25], texts[5:30], texts[25:], texts[:20], texts[2:9]]
    return [_write(folder / name, part) for name, part in zip(names, parts, strict=True)]


def _prepare(path, corpus, layout, **options):
    filters = options.pop("filters", Filters())
    window = options.pop("window", 40)
    options = {"layout": layout, "lengths": LENGTHS, "filters": filters, "workers": 1, **options}
    return prepare(corpus, "test", path, BYTES, window, 0.3, **options)


FILTERS = [Filters(), Filters(4, 90, deduplicate=True)]


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize(
    ("layout", "inputs"),
    [("windows", None), ("packed", None), ("packed", "q"), ("pairs", "q"), ("packed_pairs", "q")],
)
def test_examples_are_made_of_what_is_said(tmp_path, files, layout, inputs, filters):
    chosen = [file for file in files if inputs is None or ".txt" not in file]
    corpus = Files(tuple(chosen), unit="paragraph", inputs_field=inputs, skip_bad_records=True)
    store = _prepare(tmp_path / "store", corpus, layout, filters=filters)
    tokenizer = load_tokenizer(store)
    fields = ["text"] if inputs is None else ["q", "text"]
    cut = LENGTHS if "pairs" in layout else None
    seen = Counter()
    for split, counts in store.manifest.splits.items():
        provenance, reader = store.provenance(split), store.split(split)
        asked = np.random.default_rng(0).permutation(np.r_[: len(reader), : min(3, len(reader))])
        pieces = provenance.pieces(asked)
        made = retokenized(pieces, provenance.sources, tokenizer, fields, cut)
        assert len(made) == len(asked)
        assert all(same_tokens(reader[index], made[place]) for place, index in enumerate(asked.tolist()))
        whole = provenance.pieces(np.arange(len(reader)))
        assert np.unique(whole.document).size >= counts.documents - (counts.dropped_tokens > 0)
        seen.update(zip((provenance.sources[source] for source in whole.source), whole.record.tolist(), strict=True))
        if cut is None:
            total = int((whole.token_end - whole.token_start).sum())
            assert total == counts.tokens - counts.dropped_tokens
            assert (whole.token_end <= whole.document_tokens).all()
    # Each is in one split only, and those that were left out in none.
    documents = sum(split.documents for split in store.manifest.splits.values())
    dropped = sum(split.dropped_tokens > 0 for split in store.manifest.splits.values())
    assert documents - 40 * dropped <= len(seen) <= documents
    if filters.deduplicate:
        texts = ["\n".join(texts_at(source, record, *_bytes(store, source, record), fields)) for source, record in seen]
        assert len(set(texts)) == len(texts) and all(4 <= len(text) <= 90 for text in texts)


def _bytes(store, source, record):
    for split in store.manifest.provenance.values():
        for file in split.documents:
            for row in pyarrow.parquet.read_table(store.path / file.name).to_pylist():
                if (row["source"], row["record"]) == (source, record):
                    return row["byte_start"], row["byte_end"]
    raise AssertionError


@pytest.mark.parametrize("unit", ["file", "line", "paragraph"])
def test_units_of_text(tmp_path, files, unit):
    corpus = Files(tuple(file for file in files if ".txt" in file), unit=unit)
    store = prepare(corpus, "test", tmp_path / "store", BYTES, 40, 0, 1)
    provenance, reader = store.provenance("train"), store.split("train")
    made = retokenized(provenance.pieces(np.arange(len(reader))), provenance.sources, load_tokenizer(store), ["text"])
    assert all(same_tokens(reader[index], made[index]) for index in range(len(reader)))


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), min_size=3, max_size=30),
    window=st.integers(1, 25),
    layout=st.sampled_from(["windows", "packed"]),
)
def test_any_texts(tmp_path_factory, texts, window, layout):
    folder = tmp_path_factory.mktemp("any")
    path = folder / "any.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    filters = Filters(deduplicate=True)
    options = {"layout": layout, "filters": filters, "workers": 1}
    try:
        store = prepare(Files((str(path),)), "test", folder / "store", BYTES, window, 0, **options)
    except UserError as error:
        assert "fewer than one window" in str(error)
        return
    provenance, reader = store.provenance("train"), store.split("train")
    pieces = provenance.pieces(np.arange(len(reader)))
    made = retokenized(pieces, provenance.sources, load_tokenizer(store), ["text"])
    assert all(same_tokens(reader[index], made[index]) for index in range(len(reader)))
    firsts = [texts.index(text) + 1 for text in dict.fromkeys(texts)]
    if layout == "packed":
        assert sorted(set(pieces.record.tolist())) == firsts
    else:
        # In order, but for what is left over.
        records = pieces.record[np.unique(pieces.document, return_index=True)[1]]
        assert records.tolist() == firsts[: len(records)]


def test_a_store_of_old_says_what_to_do(tmp_path, files):
    store = _prepare(tmp_path / "store", Files(tuple(files), skip_bad_records=True), "windows")
    manifest = json.loads((store.path / FILE_NAME).read_text())
    del manifest["provenance"]
    (store.path / FILE_NAME).write_text(json.dumps(manifest))
    old = TokenStore.open(store.path)
    with pytest.raises(UserError, match=r"store: made before triarch recorded which documents .* prepare it anew"):
        old.provenance("train")
    # So that a run that was trained on it goes on with the one that is made anew.
    assert old.manifest.fingerprint == store.manifest.fingerprint


def test_moved_files_make_the_same_store(tmp_path, files):
    first = _prepare(tmp_path / "a", Files((files[0],), skip_bad_records=True), "windows")
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(Path(files[0]).read_bytes())
    second = _prepare(tmp_path / "b", Files((str(moved),), skip_bad_records=True), "windows")
    assert first.manifest.fingerprint == second.manifest.fingerprint
    assert second.manifest.provenance != first.manifest.provenance


@pytest.mark.parametrize("place", [0.3, 0.6, 0.95])
def test_damage_is_found(tmp_path, files, place):
    store = _prepare(tmp_path / "store", Files(tuple(files), skip_bad_records=True), "packed")
    path = store.path / store.manifest.provenance["train"].pieces[0].name
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * place)] ^= 1
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"train-pieces-00000-of-\d+\.parquet: not what was written"):
        TokenStore.open(store.path).provenance("train")
    path.write_bytes(raw[:-1])
    with pytest.raises(UserError, match=r"\.parquet: the store is cut short"):
        TokenStore.open(store.path)
    with pytest.raises(UserError, match=r"no split 'trian' .did you mean 'train'"):
        store.provenance("trian")

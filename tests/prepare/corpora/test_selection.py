"""Python's own sets are the reference for duplicates."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triarch.errors import UserError
from triarch.prepare.corpora import duplicates
from triarch.prepare.corpora.documents import Document, LeftOut
from triarch.prepare.corpora.duplicates import digests, find_duplicates
from triarch.prepare.corpora.selection import Filters, selected


@dataclasses.dataclass
class Texts:
    texts: list[str]

    def documents(self):
        for text in self.texts:
            yield Document(text, text, 1) if text else LeftOut("empty", "somewhere", 1)


def _outcomes(corpus, filters, folder):
    progress = []
    bits = None
    if filters.deduplicate:
        bits = find_duplicates([digests(corpus, filters, progress.append)], folder).bits
    assert sum(progress) == len(corpus.texts) * filters.deduplicate
    assert list(folder.iterdir()) == []
    records = list(selected(corpus, filters, bits))
    assert [record.progress for record in records] == [1] * len(corpus.texts)
    return [record.reason if isinstance(record, LeftOut) else record.text for record in records]


def _expected(texts, filters):
    seen = set()
    for text in texts:
        if not text:
            yield "empty"
        elif len(text) < filters.min_characters:
            yield f"shorter than {filters.min_characters} characters"
        elif filters.max_characters is not None and len(text) > filters.max_characters:
            yield f"longer than {filters.max_characters} characters"
        elif filters.deduplicate and text in seen:
            yield "exact duplicate"
        else:
            yield text
        seen.add(text)


lengths = st.one_of(st.none(), st.integers(4, 8))


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text("abc\u00e9", max_size=6), max_size=80),
    filters=st.builds(Filters, st.integers(0, 4), lengths, st.booleans()),
    block=st.integers(1, 9),
)
def test_what_is_kept(tmp_path_factory, texts, filters, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", block)
        outcomes = _outcomes(Texts(texts), filters, tmp_path_factory.mktemp("scratch"))
    assert outcomes == list(_expected(texts, filters))


def test_many_documents(tmp_path):
    draw = np.random.default_rng(0)
    texts = [str(number) for number in draw.integers(0, 60_000, 150_000)]
    filters = Filters(deduplicate=True)
    assert _outcomes(Texts(texts), filters, tmp_path) == list(_expected(texts, filters))


def test_examples_with_other_inputs_are_no_duplicates(tmp_path):
    corpus = Texts([])
    documents = [Document("yes", "", 1, inputs) for inputs in ("one?", "two?", "one?")]
    corpus.documents = lambda: iter(documents)
    found = find_duplicates([digests(corpus, Filters(deduplicate=True), lambda _: None)], tmp_path)
    assert np.unpackbits(found.bits)[:3].tolist() == [0, 0, 1] and found.counts.tolist() == [3]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.text("abc", max_size=2), max_size=12), max_size=6), st.integers(1, 9))
def test_shards_are_as_the_whole(tmp_path_factory, shards, block):
    """Each shard finds its own documents' bits where it is told that they begin."""
    filters = Filters(1, deduplicate=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", block)
        blocks = [digests(Texts(texts), filters, lambda _: None) for texts in shards]
        found = find_duplicates(blocks, tmp_path_factory.mktemp("scratch"))
    assert found.counts.tolist() == [sum(text != "" for text in texts) for texts in shards]
    outcomes, first = [], 0
    for texts, count in zip(shards, found.counts.tolist(), strict=True):
        records = selected(Texts(texts), filters, found.bits[first >> 3 :], first & 7)
        outcomes += [record.reason if isinstance(record, LeftOut) else record.text for record in records]
        first += count
    assert outcomes == list(_expected([text for texts in shards for text in texts], filters))


@pytest.mark.parametrize(("low", "high"), [(-1, None), (0, 0), (5, 4)])
def test_filters_that_make_no_sense(low, high):
    with pytest.raises(UserError, match=r"m(in|ax)_characters=-?\d: expected"):
        Filters(low, high)

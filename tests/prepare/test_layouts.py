"""Layouts lose and double nothing; first-fit is what a plain loop makes of it."""

import functools
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triarch.prepare import layouts
from triarch.prepare.layouts import FirstFit, Windows, make_layout

PAD = -1
lengths_of_documents = st.lists(st.integers(1, 40), max_size=30)


def _documents(lengths):
    """Documents in which no two tokens are equal."""
    numbers = iter(range(100_000))
    return [np.array([next(numbers) for _ in range(length)], np.int32) for length in lengths]


def _calls(documents, sizes):
    """The documents in calls of `sizes` documents each."""
    start = 0
    for size in [*sizes, len(documents)]:
        part = documents[start : start + size]
        start += size
        if part:
            yield np.concatenate(part), np.array([len(document) for document in part])


@given(lengths=lengths_of_documents, window=st.integers(1, 17), sizes=st.lists(st.integers(0, 5)))
def test_windows_and_rest_are_the_stream(lengths, window, sizes):
    layout = Windows(window)
    cut = [layout.add(*call).tokens for call in _calls(_documents(lengths), sizes)]
    assert all(part.shape[1] == window for part in cut) and layout.finish().tokens.shape == (0, window)
    stream = np.concatenate([*(part.ravel() for part in cut), layout.rest])
    np.testing.assert_array_equal(stream, np.arange(sum(lengths)))
    assert layout.left_over == len(layout.rest) == sum(lengths) % window


def _pieces(examples):
    """Each segment's tokens, checking that segments lie side by side, numbered from 1, with padding behind."""
    for tokens, segments in zip(examples.tokens, examples.segment_ids, strict=True):
        count = int((segments > 0).sum())
        assert count > 0 and (segments[:count] > 0).all() and not segments[count:].any()
        assert (tokens[count:] == PAD).all()
        assert np.unique(segments[:count]).tolist() == list(range(1, segments.max() + 1))
        assert (np.diff(segments[:count]) >= 0).all()
        for number in range(1, segments.max() + 1):
            yield tokens[segments == number].tolist()


def _cut(document, window):
    return [document[start : start + window].tolist() for start in range(0, len(document), window)]


@settings(max_examples=200)
@given(
    lengths=lengths_of_documents,
    window=st.integers(1, 17),
    sizes=st.lists(st.integers(0, 5)),
    open_rows=st.integers(1, 8),
)
def test_packing_keeps_every_piece_once(lengths, window, sizes, open_rows):
    documents = _documents(lengths)
    layout = FirstFit([window], PAD, open_rows=open_rows)
    done = [layout.add(*call) for call in _calls(documents, sizes)]
    in_rows = sum(int((examples.segment_ids > 0).sum()) for examples in done)
    assert layout.left_over == sum(lengths) - in_rows
    done.append(layout.finish())
    assert layout.left_over == 0
    pieces = [piece for examples in done for piece in _pieces(examples)]
    assert sorted(pieces) == sorted(piece for document in documents for piece in _cut(document, window))
    told = np.concatenate([examples.pieces for examples in done])
    assert [documents[n][start : start + length].tolist() for _, n, start, length in told.tolist()] == pieces
    segments = np.concatenate([examples.segment_ids for examples in done])
    np.testing.assert_array_equal(np.bincount(told[:, 0], minlength=len(segments)), segments.max(axis=1, initial=0))


@given(lengths=lengths_of_documents, window=st.integers(1, 17))
def test_first_fit(lengths, window):
    """With rows enough, the rows of the textbook's algorithm."""
    expected = []
    for document in _documents(lengths):
        for piece in _cut(document, window):
            row = next((row for row in expected if sum(map(len, row)) + len(piece) <= window), None)
            if row is None:
                row = []
                expected.append(row)
            row.append(piece)
    layout = FirstFit([window], PAD, open_rows=10_000)
    done = [layout.add(*call) for call in _calls(_documents(lengths), [])] + [layout.finish()]
    rows = [
        list(_pieces(layouts.ExampleArrays(t[None], s[None])))
        for d in done
        for t, s in zip(d.tokens, d.segment_ids, strict=True)
    ]
    assert sorted(rows) == sorted(expected)


@pytest.mark.parametrize("name", ["windows", "packed", "packed_pairs"])
@given(data=st.data(), lengths=lengths_of_documents, window=st.integers(1, 17))
def test_a_layout_goes_on_from_its_state(name, data, lengths, window):
    make, calls = functools.partial(make_layout, name, window, PAD), []
    if name == "packed_pairs":
        lengths = [
            min(length, 1 + (window, 9)[place % 2]) for place, length in enumerate(lengths[: len(lengths) // 2 * 2])
        ]
        make = functools.partial(make_layout, name, window + 11, PAD, lengths={"inputs": window + 1, "targets": 10})
    calls = list(_calls(_documents(lengths), [1 + (name == "packed_pairs")] * len(lengths)))
    stop = data.draw(st.integers(0, len(calls)))
    whole, first = make(), make()
    expected = [whole.add(*call) for call in calls] + [whole.finish()]
    done = [first.add(*call) for call in calls[:stop]]
    second = make(state=json.loads(json.dumps(first.state())))
    assert second.left_over == first.left_over
    done += [second.add(*call) for call in calls[stop:]] + [second.finish()]
    for examples, other in zip(done, expected, strict=True):
        np.testing.assert_array_equal(examples.tokens, other.tokens)
        if name != "windows":
            np.testing.assert_array_equal(examples.segment_ids, other.segment_ids)
            np.testing.assert_array_equal(examples.pieces, other.pieces)


@settings(max_examples=200)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), max_size=40),
    sizes=st.lists(st.integers(0, 5)),
    open_rows=st.integers(1, 8),
)
def test_packed_pairs_keep_both_sides_together(lengths, sizes, open_rows):
    """No pair is lost, doubled or cut, no side of a row longer than its length; rows are those of a plain loop."""
    documents = _documents([length for pair in lengths for length in pair])
    layout = FirstFit([9, 5], PAD, open_rows=open_rows)
    done = [layout.add(*call) for call in _calls(documents, [2 * size for size in sizes])]
    left = layout.left_over
    assert left == sum(map(len, documents)) - sum(int((examples.segment_ids > 0).sum()) for examples in done)
    done.append(layout.finish())
    found = []
    for examples in done:
        assert examples.tokens.shape[1] == 14
        for segments in examples.segment_ids:
            assert (segments % 2 == 1).sum() <= 9 and ((segments > 0) & (segments % 2 == 0)).sum() <= 5
        texts = list(_pieces(examples))
        pairs = zip(texts[::2], texts[1::2], strict=True)
        for (_, document, start, count), pair in zip(examples.pieces.tolist(), pairs, strict=True):
            assert (start, count) == (0, len(pair[0]) + len(pair[1]))
            assert pair == tuple(documents[2 * document + side].tolist() for side in (0, 1))
            found.append(document)
    assert sorted(found) == list(range(len(lengths)))
    if open_rows >= len(lengths):
        assert found == [document for row in _first_fit(lengths, (9, 5)) for document in row]


def _first_fit(lengths, sides):
    """The textbook's algorithm; of each row which pairs it holds."""
    rows = []
    for document, pair in enumerate(lengths):
        room = (row for row in rows if all(sum(lengths[d][s] for d in row) + pair[s] <= sides[s] for s in (0, 1)))
        row = next(room, None)
        if row is None:
            row = []
            rows.append(row)
        row.append(document)
    return rows


@given(lengths=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), max_size=20))
def test_pairs_are_each_an_example(lengths):
    documents = _documents([length for pair in lengths for length in pair])
    layout = make_layout("pairs", 8, PAD)
    examples = [layout.add(*call) for call in _calls(documents, [2, 4])] + [layout.finish()]
    rows = [row for done in examples for row in zip(done.tokens, done.segment_ids, strict=True)]
    assert len(rows) == len(lengths)
    for (tokens, segments), inputs, targets in zip(rows, documents[::2], documents[1::2], strict=True):
        np.testing.assert_array_equal(tokens[segments == 1], inputs)
        np.testing.assert_array_equal(tokens[segments == 2], targets)
        assert (tokens[segments == 0] == PAD).all()


def test_packing_wastes_little():
    draw = np.random.default_rng(0)
    lengths = draw.lognormal(5, 1, 5000).astype(int) + 1
    layout = FirstFit([2048], PAD)
    done = [layout.add(np.zeros(length, np.int32), np.array([length])) for length in lengths] + [layout.finish()]
    rows = sum(len(examples.tokens) for examples in done)
    assert lengths.sum() / (rows * 2048) > 0.97


def test_segments_can_be_numbered(monkeypatch):
    monkeypatch.setattr(layouts, "_MAX_SEGMENTS", 3)
    layout = FirstFit([100], PAD)
    layout.add(np.arange(10), np.ones(10, np.int64))
    assert layout.finish().segment_ids.max() == 3


@settings(max_examples=150)
@given(
    lengths=lengths_of_documents,
    window=st.integers(1, 17),
    layout=st.sampled_from(["windows", "packed"]),
    cuts=st.lists(st.lists(st.integers(1, 12), max_size=4), max_size=30),
)
def test_documents_in_parts_are_the_same(lengths, window, layout, cuts):
    documents = _documents(lengths)
    whole, parted = make_layout(layout, window, PAD), make_layout(layout, window, PAD)
    expected, found = [], []
    for document, sizes in itertools.zip_longest(documents, cuts[: len(documents)], fillvalue=()):
        expected.append(whole.add(document, np.array([len(document)])))
        for size in sizes:
            if size < len(document):
                found.append(parted.add_part(document[:size]))
                document = document[size:]
        found.append(parted.add(document, np.array([len(document)])))
    expected.append(whole.finish())
    found.append(parted.finish())
    for name in ("tokens", "segment_ids", "pieces"):
        arrays = [[getattr(examples, name) for examples in side] for side in (expected, found)]
        if arrays[0][0] is not None:
            np.testing.assert_array_equal(*map(np.concatenate, arrays))
    assert whole.left_over == parted.left_over

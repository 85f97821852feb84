"""Where stop texts end, against a search in the text."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from triarch.decoding import StopTexts

PIECES = st.lists(st.text("ab\u00e9", max_size=4).map(str.encode), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(
    pieces=PIECES,
    halves=st.lists(st.sampled_from([b"\xc3", b"\xa9", b"a\xc3"]), max_size=2),
    stops=st.lists(st.text("ab\u00e9", min_size=1, max_size=4), min_size=1, max_size=3),
    data=st.data(),
)
def test_a_stop_text_ends_within_a_token(pieces, halves, stops, data):
    """However tokens cut the text, halves of characters included; ids that stand for nothing change nothing."""
    pieces = [*pieces, *halves]
    automaton = StopTexts.of(stops, pieces)
    following, ends = np.asarray(automaton.following), np.asarray(automaton.ends)
    tokens = data.draw(st.lists(st.integers(0, len(pieces)), max_size=12))
    parts = [pieces[token] if token < len(pieces) else b"" for token in tokens]
    text, edges = b"".join(parts), [0, *itertools.accumulate(map(len, parts))]
    state = 0
    for token, first, last in zip(tokens, edges[:-1], edges[1:], strict=True):
        is_there = any(text[:end].endswith(stop.encode()) for stop in stops for end in range(first + 1, last + 1))
        assert ends[state, token] == is_there
        state = following[state, token]

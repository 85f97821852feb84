"""Masks against their definition, pair by pair."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from triarch.models.attention.masks import Mask

segments = st.lists(st.integers(0, 3), min_size=6, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    query=st.none() | segments,
    key=segments,
    prefix=st.none() | st.lists(st.booleans(), min_size=6, max_size=6),
    causal=st.booleans(),
    window=st.none() | st.integers(0, 7),
)
def test_equals_its_definition(query, key, prefix, causal, window):
    key = None if query is None else key

    def allowed(i, j):
        if causal and j > i and not (prefix and prefix[j]):
            return False
        if window is not None and abs(i - j) > window:
            return False
        return query is None or (query[i] == key[j] and key[j] != 0)

    def row(values):
        return None if values is None else np.array([values])

    mask = Mask(row(query), row(key), row(prefix), causal, None).with_window(window)
    dense = mask.dense(6, 6)
    wanted = np.array([[allowed(i, j) for j in range(6)] for i in range(6)])
    if dense is None:
        assert wanted.all()
    else:
        np.testing.assert_array_equal(np.broadcast_to(dense, (1, 1, 6, 6))[0, 0], wanted)


def test_lengths_of_queries_and_keys_may_differ():
    mask = Mask(np.array([[1, 2, 0]]), np.array([[1, 1, 2, 2, 0]]))
    wanted = [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(mask.dense(3, 5)[0, 0], np.array(wanted, bool))

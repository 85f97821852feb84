"""Windowing loses and doubles nothing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from triarch.tasks.windows import Windows


@given(sequences=st.lists(st.integers(0, 40), max_size=20), window=st.integers(1, 17))
def test_windows_and_rest_are_the_stream(sequences, window):
    numbers = iter(range(10_000))
    documents = [np.array([next(numbers) for _ in range(length)], np.int32) for length in sequences]
    windows = Windows(window)
    cut = [windows.add(document) for document in documents]
    assert all(part.shape[1] == window for part in cut)
    stream = np.concatenate([*(part.ravel() for part in cut), windows.rest])
    np.testing.assert_array_equal(stream, np.arange(sum(sequences)))
    assert len(windows.rest) == sum(sequences) % window

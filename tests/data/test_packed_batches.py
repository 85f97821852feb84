"""Batches whose examples share rows: every example once, in few rows, of few shapes."""

from __future__ import annotations

import numpy as np
import pytest

from triarch.data.batches import Batches
from triarch.data.packed_batches import PackedBatches, first_fit
from triarch.data.streams import Epochs

SIDES = (24, 16)


def examples(count):
    rng = np.random.default_rng(0)
    return [
        {name: rng.integers(2, 90, 1 + rng.integers(most)) for name, most in (("inputs", 24), ("targets", 16))}
        for _ in range(count)
    ]


def made(multiple=1, own=lambda count: slice(None), batch_size=64):
    raw = Batches(Epochs(examples(500), lambda example, rng: dict(example), 0), batch_size)
    return raw, PackedBatches(raw, lambda row, rng: row | {"num_inputs": _padded(row)}, SIDES, 0, multiple, own)


def _padded(row):
    return np.pad(row["num_inputs"], (0, 40 - len(row["num_inputs"])))


def pairs_of(batch):
    """The examples of a batch, in any order."""
    found = []
    for tokens, segments, counts in zip(batch["tokens"], batch["segment_ids"], batch["num_inputs"], strict=True):
        for number in range(1, segments.max() + 1):
            text = tokens[segments == number].tolist()
            found.append((tuple(text[: counts[number - 1]]), tuple(text[counts[number - 1] :])))
        assert counts.sum() <= SIDES[0]
        assert (segments > 0).sum() - counts.sum() <= SIDES[1]
    return sorted(found)


@pytest.mark.parametrize("step", [0, 5])
def test_a_batch_has_its_examples_each_once(step):
    raw, packed = made()
    wanted = [raw.stream.features(position) for position in range(step * 64, (step + 1) * 64)]
    assert pairs_of(packed.batch(step)) == sorted((tuple(one["inputs"]), tuple(one["targets"])) for one in wanted)
    np.testing.assert_array_equal(packed.batch(step)["tokens"], made()[1].batch(step)["tokens"])


def test_rows_are_few_and_of_few_counts():
    _, packed = made(multiple=4)
    counts = [len(packed.batch(step)["tokens"]) for step in range(20)]
    assert all(count % 4 == 0 for count in counts)
    assert len(set(counts)) <= 6
    assert np.mean(counts) < 48


def test_hosts_have_rows_of_the_same_batch():
    whole = made(multiple=4)[1].batch(3)["tokens"]
    halves = [made(4, lambda count, host=host: slice(host * count // 2, (host + 1) * count // 2)) for host in (0, 1)]
    np.testing.assert_array_equal(whole, np.concatenate([packed.batch(3)["tokens"] for _, packed in halves]))


def test_first_fit_is_within_its_bound():
    """No more rows than 11/9 of what the fuller side needs, and one (Johnson 1973, of one side)."""
    lengths = np.random.default_rng(1).integers(1, 12, (300, 1))
    rows = first_fit(lengths, (24,))
    assert sorted(index for row in rows for index in row) == list(range(300))
    assert all(lengths[row].sum() <= 24 for row in rows)
    assert len(rows) <= 11 / 9 * np.ceil(lengths.sum() / 24) + 1

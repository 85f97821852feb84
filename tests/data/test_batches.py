"""batch(step) is a pure function of (seed, step)."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.stores import numbered_windows, write_store
from triarch.data.batches import Batches
from triarch.data.streams import Epochs
from triarch.errors import UserError


class Numbers:
    """Examples that say who they are."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return {"tokens": np.full(3, index, np.int32)}


def noisy(example, rng):
    """A transform whose randomness shows."""
    return {"tokens": example["tokens"], "noise": rng.integers(0, 2**62, 4)}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


sizes = st.integers(1, 60)
seeds = st.integers(0, 2**64 - 1)


@settings(max_examples=15, deadline=None)
@given(size=sizes, batch_size=st.integers(1, 16), seed=seeds, epochs=st.integers(1, 3))
def test_each_epoch_visits_each_example_once(size, batch_size, seed, epochs):
    batches = Batches(Epochs(Numbers(size), noisy, seed), batch_size)
    steps = -(-size * epochs // batch_size)
    ids = list(itertools.chain.from_iterable(batches.example_ids(step) for step in range(steps)))
    tokens = np.concatenate([batches.batch(step)["tokens"][:, 0] for step in range(steps)])
    assert tokens.tolist() == [index for _, index, _ in ids]
    assert collections.Counter(ids[: size * epochs]) == collections.Counter(
        itertools.product([0], range(size), range(epochs))
    )
    assert [epoch for *_, epoch in ids] == sorted(epoch for *_, epoch in ids)


@settings(max_examples=15, deadline=None)
@given(size=st.integers(3, 60), seed=seeds, passes=st.integers(1, 3))
def test_an_epoch_is_one_pass(size, seed, passes):
    """Of examples that hold several passes one after another; by and by all are read, and others come first again."""
    stream, rounds = Epochs(Numbers(size), noisy, seed, passes=passes), 2
    ids = [stream.example_id(position) for position in range(rounds * size)]
    by_epoch = collections.defaultdict(list)
    for _, index, epoch in ids:
        by_epoch[epoch].append(index)
    assert list(by_epoch) == list(range(rounds * passes))
    for epoch, indices in by_epoch.items():
        number = epoch % passes
        assert sorted(indices) == list(range(size * number // passes, size * (number + 1) // passes))
    if passes == 1:
        plain = Epochs(Numbers(size), noisy, seed)
        assert ids == [plain.example_id(position) for position in range(rounds * size)]


def test_passes_are_shuffled_each_by_itself_and_anew():
    stream = Epochs(Numbers(120), noisy, 4, passes=3)
    orders = [tuple(stream.example_id(40 * epoch + place).index % 40 for place in range(40)) for epoch in range(6)]
    assert len(set(orders)) == 6


@settings(max_examples=10, deadline=None)
@given(size=sizes, seed=seeds, steps=st.lists(st.integers(0, 10**6), min_size=1, max_size=6), data=st.data())
def test_any_order_and_any_split_over_hosts(size, seed, steps, data):
    whole = Batches(Epochs(Numbers(size), noisy, seed), 12)
    expected = {step: whole.batch(step) for step in steps}
    for step in data.draw(st.permutations(steps)):
        assert_equal(whole.batch(step), expected[step])
    hosts = data.draw(st.sampled_from([1, 2, 3, 4, 6, 12]))
    rows = 12 // hosts
    for step in steps:
        parts = [
            Batches(Epochs(Numbers(size), noisy, seed), 12, slice(host * rows, (host + 1) * rows)).batch(step)
            for host in range(hosts)
        ]
        assert_equal({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, expected[step])


@pytest.mark.parametrize(("num_threads", "prefetch"), [(0, 0), (1, 1), (1, 4), (4, 8)])
def test_iterating_gives_the_same_batches(num_threads, prefetch):
    batches = Batches(Epochs(Numbers(37), noisy, seed=3), 5)
    for start in (0, 11):
        taken = list(itertools.islice(batches.iterate(start, num_threads, prefetch), 20))
        assert [step for step, _ in taken] == list(range(start, start + 20))
        for step, batch in taken:
            assert_equal(batch, batches.batch(step))


def test_an_error_while_reading_ahead_reaches_the_caller():
    def fail(example, rng):
        raise UserError("a damaged example")

    with pytest.raises(UserError, match="a damaged example"):
        next(Batches(Epochs(Numbers(3), fail, 0), 2).iterate(0, num_threads=2))


def test_seeds_share_no_epoch():
    """Grain shuffles epoch e with seed + e, so seed s at epoch 1 must not be seed s + 1 at epoch 0."""
    orders = {
        tuple(index for _, index, _ in Batches(Epochs(Numbers(50), noisy, seed), 50).example_ids(epoch))
        for seed in range(5)
        for epoch in range(5)
    }
    assert len(orders) == 25


def test_noise_depends_on_seed_example_and_epoch_only():
    """The same example draws the same numbers at whatever step and row, and others in each epoch and seed."""
    draws = collections.defaultdict(set)
    for seed, batch_size in itertools.product((0, 1), (3, 7)):
        batches = Batches(Epochs(Numbers(10), noisy, seed), batch_size)
        for step in range(-(-30 // batch_size)):
            batch = batches.batch(step)
            for row, (_, index, epoch) in enumerate(batches.example_ids(step)):
                draws[seed, index, epoch].add(batch["noise"][row].tobytes())
    assert all(len(values) == 1 for values in draws.values())
    noise = [next(iter(draws[seed, index, epoch])) for seed in (0, 1) for index in range(10) for epoch in range(3)]
    assert len(set(noise)) == 60


def test_noise_of_neighbouring_examples_is_independent():
    """Uniform over rows, columns and epochs: the streams of a counter-based generator do not overlap."""
    batches = Batches(Epochs(Numbers(1000), lambda example, rng: {"noise": rng.random(64)}, seed=0), 1000)
    noise = np.concatenate([batches.batch(step)["noise"] for step in range(4)])
    np.testing.assert_allclose(noise.mean(0), 0.5, atol=5 * (1 / 12 / 4000) ** 0.5)
    correlation = np.corrcoef(noise[:200])
    assert np.abs(correlation - np.eye(200)).max() < 5.5 / 64**0.5
    assert len(np.unique(noise)) == noise.size


def test_a_store_split_is_examples(tmp_path):
    windows = numbered_windows(10)
    store = write_store(tmp_path / "store", windows, file_tokens=24)
    batches = Batches(Epochs(store.split("train"), lambda example, rng: dict(example), seed=1), 5)
    seen = np.concatenate([batches.batch(0)["tokens"], batches.batch(1)["tokens"]])
    assert seen.tolist() != windows.tolist()
    np.testing.assert_array_equal(seen[np.argsort(seen[:, 0])], windows)


@pytest.mark.parametrize(
    ("size", "batch_size", "rows", "message"),
    [(0, 1, None, "no examples"), (3, 0, None, "batch_size=0"), (3, 2, slice(2, 4), "at least one row")],
)
def test_no_batch_to_make(size, batch_size, rows, message):
    with pytest.raises(UserError, match=message):
        Batches(Epochs(Numbers(size), noisy, 0), batch_size, rows)


def test_negative_step():
    with pytest.raises(ValueError, match="begin with step 0"):
        Batches(Epochs(Numbers(3), noisy, 0), 2).batch(-1)

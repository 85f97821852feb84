"""Mixtures of stores: pure in (seed, step), whole epochs of every store, weights as asked."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_batches import Numbers, assert_equal, noisy
from triarch.data.batches import Batches
from triarch.data.mixture import MixturePhase, StoreMixture, whole_phases
from triarch.data.source_order import SourceOrder
from triarch.data.streams import Epochs, Interleaved
from triarch.errors import UserError


def interleaving(phases, batch_size, sizes):
    names = [str(number) for number in range(len(sizes))]
    return SourceOrder.begin(names, whole_phases(phases, 0, sizes), batch_size).interleaving()


def mixed(sizes, phases, seed, batch_size, rows=None):
    streams = [Epochs(Numbers(size), noisy, seed, source) for source, size in enumerate(sizes)]
    return Batches(Interleaved(streams, interleaving(phases, batch_size, sizes)), batch_size, rows)


@st.composite
def mixtures(draw):
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    starts = [0, *sorted(draw(st.sets(st.integers(1, 12), max_size=2)))]
    of_phase = st.none() | st.tuples(*[st.floats(0, 10) for _ in sizes]).filter(lambda w: sum(w) > 0)
    temperatures = st.floats(0.3, 5)
    return sizes, [MixturePhase(start, draw(of_phase), draw(temperatures)) for start in starts]


@settings(max_examples=20, deadline=None)
@given(mixtures(), st.integers(0, 2**64 - 1), st.integers(1, 12))
def test_each_epoch_of_each_store_visits_each_example_once(mixture, seed, batch_size):
    sizes, phases = mixture
    batches = mixed(sizes, phases, seed, batch_size)
    ids = list(itertools.chain.from_iterable(batches.example_ids(step) for step in range(20)))
    for source, size in enumerate(sizes):
        own = [(index, epoch) for number, index, epoch in ids if number == source]
        epochs = len(own) // size
        whole = collections.Counter(own[: epochs * size])
        assert whole == collections.Counter(itertools.product(range(size), range(epochs)))
        rest = own[epochs * size :]
        assert len(set(rest)) == len(rest) and {epoch for _, epoch in rest} <= {epochs}


@settings(max_examples=15, deadline=None)
@given(mixtures(), st.integers(0, 2**64 - 1), st.lists(st.integers(0, 10**6), min_size=1, max_size=4), st.data())
def test_any_order_and_any_split_over_hosts(mixture, seed, steps, data):
    expected = {step: mixed(*mixture, seed, 12).batch(step) for step in steps}
    again = mixed(*mixture, seed, 12)
    for step in data.draw(st.permutations(steps)):
        assert_equal(again.batch(step), expected[step])
    hosts = data.draw(st.sampled_from([2, 3, 4, 12]))
    rows = 12 // hosts
    parts = [mixed(*mixture, seed, 12, slice(host * rows, (host + 1) * rows)) for host in range(hosts)]
    for step in steps:
        of_hosts = [part.batch(step) for part in parts]
        assert_equal({name: np.concatenate([part[name] for part in of_hosts]) for name in of_hosts[0]}, expected[step])


@pytest.mark.parametrize("num_threads", [0, 1, 4])
def test_reading_ahead_gives_the_same_batches(num_threads):
    batches = mixed([7, 30], [MixturePhase(0, (3, 1)), MixturePhase(6, (1, 9))], 3, 5)
    for step, batch in itertools.islice(batches.iterate(2, num_threads), 10):
        assert_equal(batch, batches.batch(step))


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (MixturePhase(weights=(49.1, 20.9, 30)), (0.491, 0.209, 0.3)),
        (MixturePhase(), (0.1, 0.2, 0.7)),
        (MixturePhase(temperature=2.0), np.sqrt([1, 2, 7]) / np.sqrt([1, 2, 7]).sum()),
        (MixturePhase(weights=(1, 4, 0), temperature=2.0), (1 / 3, 2 / 3, 0)),
    ],
)
def test_weights_are_met_over_ten_thousand_steps(phase, expected):
    """T5's temperature: shares are proportional to rate^(1/T), the rate by default the number of examples."""
    counts = interleaving([phase], 3, [100, 200, 700]).counts(3 * 10_000)
    np.testing.assert_allclose(np.array(counts) / 30_000, expected, rtol=0.01)


def test_a_mixture_of_one_is_that_store():
    single = Batches(Epochs(Numbers(11), noisy, 5), 4)
    for step in range(9):
        assert_equal(mixed([11], [MixturePhase()], 5, 4).batch(step), single.batch(step))


def test_stores_have_orders_and_noise_of_their_own():
    batch = mixed([50, 50], [MixturePhase(weights=(1, 1))], 0, 100).batch(0)
    assert len({noise.tobytes() for noise in batch["noise"]}) == 100
    ids = mixed([50, 50], [MixturePhase(weights=(1, 1))], 0, 100).example_ids(0)
    first, second = ([index for number, index, _ in ids if number == source] for source in (0, 1))
    assert sorted(first) == sorted(second) and first != second


@pytest.mark.parametrize(
    ("stores", "phases", "message"),
    [
        ((), (MixturePhase(),), "at least one store"),
        (("a",), (), "at least one store in stores and one phase"),
        (("a", "b", "./a"), (MixturePhase(),), r"StoreMixture.stores: ./a is there twice"),
        (("a", "b"), (MixturePhase(weights=(1,)),), "1 weights for 2 stores"),
        (("a", "b"), (MixturePhase(weights=(1, -2)),), "no negative or infinite weight"),
        (("a", "b"), (MixturePhase(weights=(1, float("nan"))),), "no negative or infinite weight"),
        (("a", "b"), (MixturePhase(weights=(0, 0)),), "the weights sum to nothing"),
        (("a", "b"), (MixturePhase(temperature=0.0),), "MixturePhase.temperature = 0.0"),
        (("a", "b"), (MixturePhase(3),), "the first phase must start at step 0"),
        (("a", "b"), (MixturePhase(0), MixturePhase(9), MixturePhase(9)), "9: phases out of order, .* starts at 9"),
    ],
)
def test_what_makes_no_mixture(stores, phases, message):
    with pytest.raises(UserError, match=message) as error:
        StoreMixture(stores, phases).validate()
    assert "\n" not in str(error.value)

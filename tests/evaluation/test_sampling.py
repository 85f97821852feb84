"""The windows that are scored are a sample of their split, and the errors of a loss are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from triarch.cli.main import main
from triarch.data.store import TokenStore
from triarch.evaluation.held_out import summarise
from triarch.evaluation.sampling import Sample, SampledWindows, Scored, draw, sample_windows
from triarch.evaluation.sums import WindowSums
from triarch.tokenizers import ByteTokenizer

DRAWS = 3000
Z = 1.96


def test_a_draw_is_spread_nested_and_fair():
    assert draw(5, None, 0).tolist() == draw(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
    small, large = draw(1000, 50, 0), draw(1000, 200, 0)
    assert (np.diff(large) > 0).all() and set(small) < set(large)
    assert draw(1000, 50, 0).tolist() == small.tolist() != draw(1000, 50, 1).tolist()
    counts = np.bincount(np.concatenate([draw(20, 5, seed) for seed in range(DRAWS)]), minlength=20)
    # Each with probability 1/4: five standard deviations of a binomial around it.
    assert abs(counts / DRAWS - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / DRAWS)


class Text:
    """Documents of many genres and lengths, in the order of their genres, cut into windows: each window's sums."""

    def __init__(self, documents: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        genre = np.sort(rng.integers(0, 15, documents))
        length = rng.geometric(1 / 6, documents)
        own = 2.5 + 0.08 * genre + 0.3 * rng.standard_normal(documents)
        self.documents = np.repeat(np.arange(documents), length)
        self.tokens = rng.integers(40, 60, len(self.documents)).astype(float)
        self.nats = self.tokens * (own[self.documents] + 0.5 * rng.standard_normal(len(self.documents)))

    @property
    def mean(self) -> float:
        return self.nats.sum() / self.tokens.sum()

    def scored(self, numbers: np.ndarray) -> Scored:
        sums = WindowSums(self.nats[numbers], self.tokens[numbers], self.tokens[numbers])
        return Scored(sums, Sample(numbers, len(self.nats), self.documents[numbers]))


def covered(text: Text, samples, error: str) -> float:
    losses = [summarise(text.scored(numbers)) for numbers in samples]
    return np.mean([abs(loss.nats_per_token - text.mean) <= Z * getattr(loss, error) for loss in losses])


def test_intervals_over_documents_hold_the_loss_of_all_text():
    """Of random subsets of documents; those over windows would be too short: a document's are alike."""
    text, rng = Text(4000), np.random.default_rng(1)
    starts = np.searchsorted(text.documents, np.arange(4001))
    subsets = [
        np.concatenate([np.arange(starts[one], starts[one + 1]) for one in rng.choice(4000, 150, replace=False)])
        for _ in range(DRAWS)
    ]
    assert 0.93 < covered(text, subsets, "standard_error") < 0.97
    by_window = [
        summarise(text.scored(numbers)._replace(sample=Sample(numbers, len(text.nats)))) for numbers in subsets
    ]
    naive = np.mean([abs(loss.nats_per_token - text.mean) <= Z * loss.standard_error for loss in by_window])
    assert naive < 0.85


@pytest.mark.parametrize("share", [0.05, 0.6])
def test_intervals_over_windows_hold_the_loss_of_the_split(share):
    text = Text(600)
    count = round(share * len(text.nats))
    draws = [draw(len(text.nats), count, seed) for seed in range(DRAWS)]
    assert 0.93 < covered(text, draws, "split_error") < 0.97
    # The first windows are of a few genres: no sample.
    first = summarise(text.scored(np.arange(count)))
    assert abs(first.nats_per_token - text.mean) > 3 * first.split_error


def test_a_text_counts_as_large_as_it_is_however_little_of_it_is_scored():
    large, small = Text(3000, seed=2), Text(300, seed=3)
    truth = (large.nats.sum() + small.nats.sum()) / (large.tokens.sum() + small.tokens.sum())
    found = [
        summarise(*(text.scored(draw(len(text.nats), 200, seed)) for text in (large, small))) for seed in range(DRAWS)
    ]
    assert 0.93 < np.mean([abs(loss.nats_per_token - truth) <= Z * loss.split_error for loss in found]) < 0.97
    assert found[0].share == 400 / (len(large.nats) + len(small.nats))


def test_windows_count_towards_the_document_that_most_of_them_is_from(tmp_path):
    """Documents of 10, 3, 25 and 12 bytes, an end each, in windows of 8 tokens: joined windows of 16 likewise."""
    lengths = [10, 3, 25, 12]
    for index, length in enumerate(lengths):
        (tmp_path / f"{index}.txt").write_text("abcd"[index] * length)
    arguments = ["prepare", "--task=files", f"--files={tmp_path / '*.txt'}", f"--output={tmp_path / 'store'}"]
    assert main([*arguments, "--vocabulary=bytes", "--window=8", "--validation_fraction=1", "--workers=1"]) == 0
    store = TokenStore.open(tmp_path / "store")
    owners = np.repeat(np.arange(4), [length + 1 for length in lengths])
    for length in (8, 16):
        count = len(owners) // length
        expected = [np.bincount(owners[i * length : (i + 1) * length]).argmax() for i in range(count)]
        found = sample_windows(range(count), store, "validation", length, None, 0)
        assert isinstance(found, SampledWindows) and found.sample.documents.tolist() == expected
    drawn = sample_windows(range(6), store, "validation", 8, 3, seed=4).sample
    whole = sample_windows(range(6), store, "validation", 8, None, seed=4).sample
    assert drawn.documents.tolist() == whole.documents[drawn.numbers].tolist() and drawn.share == 0.5


def test_rows_of_a_packed_document_are_that_documents(tmp_path):
    """A document longer than a row fills several, which are no samples of their own."""
    lengths = [50, 3, 25, 4, 12]
    for index, length in enumerate(lengths):
        (tmp_path / f"{index}.txt").write_text("abcde"[index] * length)
    arguments = ["prepare", "--task=files", f"--files={tmp_path / '*.txt'}", f"--output={tmp_path / 'store'}"]
    arguments += ["--vocabulary=bytes", "--window=8", "--layout=packed", "--validation_fraction=1", "--workers=1"]
    assert main(arguments) == 0
    store = TokenStore.open(tmp_path / "store")
    rows = store.split("validation")
    letters = store.token_bytes.own > 0
    for sample in (None, 5):
        found = sample_windows(rows, store, "validation", 8, sample, seed=4).sample
        for number, document in zip(found.numbers, found.documents, strict=True):
            tokens = rows[int(number)]["tokens"]
            counts = np.bincount(tokens[letters[tokens]])
            # By one token, its end, which letters do not count, a document may be the greater one.
            assert counts[np.unique(tokens[letters[tokens]])].max() <= counts[_letter(document)] + 1
    assert len(set(found.documents)) < len(found.numbers)


def _letter(document: int) -> int:
    (token,) = np.unique(ByteTokenizer().encode("abcde"[document]))
    return int(token)

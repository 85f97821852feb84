"""Rows put into batches of few shapes."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from triarch.data.features import Features
from triarch.decoding.prompts import bucket, num_places, padded, row_bucket
from triarch.decoding.score_rows import ScoreRow
from triarch.models import ModelConfig


@dataclasses.dataclass(frozen=True)
class ScoreBatch:
    """What a program of `score_programs` takes.

    Attributes:
      features: see there.
      owners: the request that each scored token belongs to, in the order of `scored_targets`.
      is_shared: whether contexts are read apart from what follows them.
    """

    features: Features
    owners: np.ndarray
    is_shared: bool


def joined_batches(
    rows: Sequence[ScoreRow], config: ModelConfig, start: tuple[int, ...], bidirectional: bool, batch_size: int
) -> Iterator[ScoreBatch]:
    """Yields batches, longest rows first, in which every row is read whole: those whose context no other row has."""
    alone = rows
    if config.architecture != "encoder-only":
        alone = [group[0] for group in _by_context(rows) if len(group) == 1]
    alone = sorted(alone, key=lambda row: (len(row.context) + len(row.tokens), len(row.context)), reverse=True)
    for chunk in _chunks(alone, batch_size):
        features = _joined_features(chunk, row_bucket(len(chunk)), config, start, bidirectional)
        # The state before `tokens` is that of the last token before them.
        shifts = [_state_before(row, config, start) for row in chunk]
        yield ScoreBatch(features | _scored(chunk, shifts), _owners(chunk), False)


def shared_batches(
    rows: Sequence[ScoreRow], config: ModelConfig, start: tuple[int, ...], bidirectional: bool, batch_size: int
) -> Iterator[ScoreBatch]:
    """Yields batches, the widest contexts first, in which a context that several rows have is read once."""
    groups = [
        part for group in _by_context(rows) if len(group) > 1 for part in _chunks(_longest_first(group), batch_size)
    ]
    # By the shapes they take, so that rows of one batch are padded little.
    groups.sort(key=lambda group: (bucket(len(group[0].context)), len(group[0].tokens)), reverse=True)
    while groups:
        count = 1
        while count < len(groups) and _fit(groups[: count + 1], config, start, batch_size):
            count += 1
        yield _shared_batch(groups[:count], config, start, bidirectional)
        groups = groups[count:]


def _by_context(rows: Sequence[ScoreRow]) -> list[list[ScoreRow]]:
    groups = defaultdict(list)
    for row in rows:
        groups[row.context].append(row)
    return list(groups.values())


def _longest_first(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    return sorted(rows, key=lambda row: len(row.tokens), reverse=True)


def _chunks(rows: Sequence[ScoreRow], size: int) -> Iterator[list[ScoreRow]]:
    for first in range(0, len(rows), size):
        yield list(rows[first : first + size])


def _fit(groups: Sequence[Sequence[ScoreRow]], config: ModelConfig, start: tuple[int, ...], batch_size: int) -> bool:
    """Whether the rows of these contexts are few enough, and no context has more after it than the model has places."""
    if sum(map(len, groups)) > batch_size:
        return False
    longest = max(len(row.tokens) for group in groups for row in group)
    return longest <= _room(groups, config, start)


def _room(groups: Sequence[Sequence[ScoreRow]], config: ModelConfig, start: tuple[int, ...]) -> float:
    """Columns there may be after the longest context: positions beyond the model's would spoil their row."""
    places = num_places(config)
    if places is None:
        return float("inf")
    return places - max(len(_read_first(group[0], config, start)) for group in groups)


def _read_first(row: ScoreRow, config: ModelConfig, start: tuple[int, ...]) -> tuple[int, ...]:
    """What the decoder reads before `row.tokens`."""
    return start if config.architecture == "encoder-decoder" else row.context


def _state_before(row: ScoreRow, config: ModelConfig, start: tuple[int, ...]) -> int:
    return 0 if config.architecture == "encoder-only" else len(_read_first(row, config, start)) - 1


def _joined_features(
    rows: Sequence[ScoreRow], count: int, config: ModelConfig, start: tuple[int, ...], bidirectional: bool
) -> Features:
    if config.architecture == "encoder-only":
        return _side("encoder", [row.tokens for row in rows], count, config)
    read = [(*_read_first(row, config, start), *row.tokens) for row in rows]
    features = _side("decoder", read, count, config)
    if config.architecture == "encoder-decoder":
        return features | _side("encoder", [row.context for row in rows], count, config)
    if bidirectional:
        seen = np.zeros_like(features["decoder_segment_ids"])
        for index, row in enumerate(rows):
            seen[index, : len(row.context)] = 1
        features["decoder_causal_attention"] = seen
    return features


def _shared_batch(
    groups: Sequence[Sequence[ScoreRow]], config: ModelConfig, start: tuple[int, ...], bidirectional: bool
) -> ScoreBatch:
    rows = list(itertools.chain.from_iterable(groups))
    contexts, count = row_bucket(len(groups)), row_bucket(len(rows))
    first = [_read_first(group[0], config, start) for group in groups]
    features = _side("decoder", first, contexts, config, left=True)
    if config.architecture == "encoder-decoder":
        features |= _side("encoder", [group[0].context for group in groups], contexts, config)
    elif bidirectional:
        features["decoder_causal_attention"] = features["decoder_segment_ids"]
    context_of = np.zeros(count, np.int32)
    context_of[: len(rows)] = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    features["context_of_row"] = context_of
    longest = max(len(row.tokens) for row in rows)
    if longest:
        width = int(min(bucket(longest), _room(groups, config, start)))
        features["continuation_tokens"] = padded([row.tokens for row in rows], count, width, False)[0]
    return ScoreBatch(features | _scored(rows, [0] * len(rows)), _owners(rows), True)


def _side(side: str, rows: Sequence[Sequence[int]], count: int, config: ModelConfig, left: bool = False) -> Features:
    longest, places = max(map(len, rows)), num_places(config)
    # A start token alone needs no room for more.
    length = longest if longest == 1 else bucket(longest)
    tokens, real = padded(rows, count, length if places is None else min(length, places), left)
    return {f"{side}_input_tokens": tokens, f"{side}_segment_ids": real}


def _owners(rows: Sequence[ScoreRow]) -> np.ndarray:
    return np.concatenate([np.array(row.owners, np.int64) for row in rows])


def _scored(rows: Sequence[ScoreRow], shifts: Sequence[int]) -> Features:
    """Returns where each target is scored; `shifts`: index of each row's state number 0."""
    row_of = np.repeat(np.arange(len(rows)), [len(row.places) for row in rows])
    places = np.concatenate([np.array(row.places) + shift for row, shift in zip(rows, shifts, strict=True)])
    targets = np.concatenate([np.array(row.targets) for row in rows])
    padding = (0, row_bucket(len(targets)) - len(targets))
    names = ("scored_rows", "scored_places", "scored_targets")
    return {name: np.pad(x, padding).astype(np.int32) for name, x in zip(names, (row_of, places, targets), strict=True)}

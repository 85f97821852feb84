"""Generation by any model with a decoder: prompts in, continuations out, compiled once for each bucket of shapes."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from triarch.decoding import loop
from triarch.decoding.prompts import PromptLayout, bucket, row_bucket
from triarch.decoding.sampling import Sampler
from triarch.decoding.settings import GenerationSettings
from triarch.decoding.stopping import Stops
from triarch.errors import UserError
from triarch.interchange import LoadedModel
from triarch.interchange.placement import host_values

_DEFAULT_START = 0


class Generator:
    """A loaded model made ready to generate; programs are kept, so that one of each shape is compiled.

    On a CPU it holds the parameters a second time, layers apart: a step that reads them in place is faster.
    """

    def __init__(self, model: LoadedModel):
        self.config = model.config
        self.placement = model.placement
        self.default_start = _start(model)
        self.graph, self.state = _unrolled(model.model)
        self._programs: dict[Any, Callable] = {}

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        settings: GenerationSettings,
        *,
        start: Sequence[int] | None = None,
        bidirectional_prompt: bool = False,
        batch_size: int = 8,
    ) -> list[list[int]]:
        """See `generate`."""
        layout = self._checked(prompts, settings, start, bidirectional_prompt)
        results: list[list[int]] = [[] for _ in prompts]
        by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        for first in range(0, len(prompts), batch_size):
            chosen = by_length[first : first + batch_size]
            for index, tokens in zip(chosen, self._batch(layout, prompts, chosen, settings), strict=True):
                results[index] = tokens
        return results

    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        settings: GenerationSettings,
        *,
        start: Sequence[int] | None = None,
        bidirectional_prompt: bool = False,
        chunk: int = 8,
    ) -> Iterator[list[list[int]]]:
        """Yields, every `chunk` steps, the new tokens of each prompt that are certain: no part of a stop sequence.

        All prompts share one batch. Taken together the pieces are what `generate` returns.
        """
        layout = self._checked(prompts, settings, start, bidirectional_prompt)
        if settings.num_beams > 1:
            raise UserError("beam search cannot be streamed: the best beam is known at the end only")
        sent = [0] * len(prompts)
        for progress, finished in self._chunks(layout, prompts, range(len(prompts)), settings, chunk):
            pieces = []
            for row in range(len(prompts)):
                whole = progress.tokens[row][: progress.lengths[row]]
                open_end = 0 if finished or progress.stopped[row] else progress.longest - 1
                end = max(sent[row], len(whole) - open_end)
                pieces.append(whole[sent[row] : end])
                sent[row] = end
            yield pieces

    def _checked(
        self, prompts: Sequence[Sequence[int]], settings: GenerationSettings, start: Sequence[int] | None, both: bool
    ) -> PromptLayout:
        if self.config.architecture == "encoder-only":
            raise UserError("an encoder has no decoder to generate with: it fills masks (see `fill_masks`)")
        settings.validate(self.config.vocab_size)
        layout = PromptLayout(self.config, tuple(self.default_start if start is None else start), both)
        layout.check(prompts, settings.max_new_tokens)
        return layout

    def _batch(
        self,
        layout: PromptLayout,
        prompts: Sequence[Sequence[int]],
        chosen: Sequence[int],
        settings: GenerationSettings,
    ) -> list[list[int]]:
        for progress, _ in self._chunks(layout, prompts, chosen, settings, settings.max_new_tokens):
            last = progress
        return [tokens[:length] for tokens, length in zip(last.tokens, last.lengths, strict=True)][: len(chosen)]

    def _chunks(
        self,
        layout: PromptLayout,
        prompts: Sequence[Sequence[int]],
        chosen: Sequence[int],
        settings: GenerationSettings,
        chunk: int,
    ) -> Iterator[tuple[Snapshot, bool]]:
        """Yields what there is after every `chunk` steps, and whether it is all."""
        rows = np.full(row_bucket(len(chosen)), -1, np.int32)
        rows[: len(chosen)] = chosen
        batch = self.placement.batch(layout.batch([prompts[index] for index in chosen], len(rows)))
        sampler, stops = Sampler.of(settings, self.config.vocab_size), Stops.of(settings.stop_tokens)
        progress = self._begin(bucket(settings.max_new_tokens))(self.state, batch, rows, sampler, stops)
        until = 0
        while True:
            until = min(until + chunk, settings.max_new_tokens)
            progress = self._proceed()(self.state, progress, sampler, stops, np.int32(until))
            snapshot = Snapshot.of(progress, stops.longest)
            finished = until >= settings.max_new_tokens or all(snapshot.stopped)
            yield snapshot, finished
            if finished:
                return

    def _begin(self, new_tokens: int) -> Callable:
        def run(state, batch, rows, sampler, stops):
            return loop.begin(nnx.merge(self.graph, state), batch, rows, sampler, stops, new_tokens)

        return self._program(("begin", new_tokens), run)

    def _proceed(self) -> Callable:
        def run(state, progress, sampler, stops, until):
            return loop.proceed(nnx.merge(self.graph, state), progress, sampler, stops, until)

        return self._program("proceed", run, donate_argnums=1)

    def _program(self, key: Any, run: Callable, **options: Any) -> Callable:
        if key not in self._programs:
            self._programs[key] = jax.jit(run, **options)
        return self._programs[key]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What a batch has come to, on the host: tokens by row, how many of them count, which rows are done."""

    tokens: list[list[int]]
    lengths: list[int]
    stopped: list[bool]
    longest: int

    @classmethod
    def of(cls, progress: loop.Progress, longest: int) -> Snapshot:
        """Fetches it; `longest` is the length of the longest stop sequence."""
        tokens, lengths, stopped = map(host_values, (progress.tokens, progress.lengths, progress.stopped))
        return cls(tokens[:, longest:].tolist(), lengths.tolist(), stopped.tolist(), longest)


_GENERATORS: weakref.WeakKeyDictionary[LoadedModel, Generator] = weakref.WeakKeyDictionary()


def generator(model: LoadedModel) -> Generator:
    """Returns the model's generator, the same one for as long as the model lives."""
    if model not in _GENERATORS:
        _GENERATORS[model] = Generator(model)
    return _GENERATORS[model]


def generate(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    *,
    start: Sequence[int] | None = None,
    bidirectional_prompt: bool = False,
    batch_size: int = 8,
) -> list[list[int]]:
    """Continues prompts.

    Args:
      model: with a decoder. An encoder reads the prompts where there is one, else the decoder does.
      prompts: token ids, complete: nothing is added but `start`.
      settings: how tokens are chosen.
      start: what the decoder reads before all else. None: with an encoder, the vocabulary's bos (0 if unknown);
        without one, nothing.
      bidirectional_prompt: whether a decoder-only model's prompt tokens, the start included, see each other in both
        directions, as a prefix language model was trained to.
      batch_size: prompts computed at once; the results do not depend on it.

    Returns:
      The new tokens of each prompt, without the stop sequence that ended them.

    Raises:
      UserError: a setting is out of range; a prompt is empty, too long for the model's positions, or holds an unknown
        id; the model has no decoder.
    """
    return generator(model).generate(
        prompts, settings, start=start, bidirectional_prompt=bidirectional_prompt, batch_size=batch_size
    )


def _start(model: LoadedModel) -> tuple[int, ...]:
    if model.config.architecture != "encoder-decoder":
        return ()
    special = (model.vocabulary or {}).get("special", {})
    return (special.get("bos", _DEFAULT_START),)


def _unrolled(model: Any) -> tuple[nnx.GraphDef, nnx.State]:
    """Returns the model's parts; on a CPU with its layers apart."""
    graph, state = nnx.split(model)
    if jax.default_backend() != "cpu":
        return graph, state
    graphs = []

    def run(state: nnx.State) -> nnx.State:
        copy = nnx.merge(graph, state)
        copy.unroll()
        new_graph, state = nnx.split(copy)
        graphs.append(new_graph)
        return state

    state = jax.jit(run)(state)
    return graphs[0], state

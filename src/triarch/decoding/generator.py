"""Generation by any model with a decoder: prompts in, continuations out, compiled once for each bucket of shapes."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from triarch.decoding import beams
from triarch.decoding.prompts import PromptLayout, bucket, in_batches, row_bucket
from triarch.decoding.sampling import Sampler
from triarch.decoding.settings import GenerationSettings
from triarch.decoding.stopping import Rows, Stops, StopTexts
from triarch.errors import UserError
from triarch.interchange import LoadedModel, StoredModel
from triarch.interchange.huggingface.generation import labels_start
from triarch.interchange.placement import host_values
from triarch.models import Network, Transformer
from triarch.models.assemblies import Decoding
from triarch.models.attention.cache import Cache
from triarch.models.network import Tree, flatten, unflatten


class Generator:
    """A model with a decoder, ready to generate, and what is always around its prompts."""

    def __init__(
        self,
        model: LoadedModel,
        *,
        start: Sequence[int] | None = None,
        bidirectional_prompt: bool = False,
        stop_texts: StopTexts | None = None,
    ):
        """Makes a model ready.

        Args:
          model: with a decoder. An encoder reads the prompts where there is one, else the decoder does.
          start: what the decoder reads before all else. None: what `decoder_start` returns.
          bidirectional_prompt: whether a decoder-only model's prompt tokens, the start included, see each other in both
            directions, as a prefix language model was trained to.
          stop_texts: texts that end a continuation, None for none.

        Raises:
          UserError: the model has no decoder.
        """
        if model.config.architecture == "encoder-only":
            raise UserError("an encoder has no decoder to generate with: it fills masks (see `fill_masks`)")
        self.config = model.config
        self.prepared = prepare(model)
        start = decoder_start(model) if start is None else tuple(start)
        self.layout = PromptLayout(model.config, start, bidirectional_prompt)
        self.stop_texts = stop_texts

    def generate(
        self, prompts: Sequence[Sequence[int]], settings: GenerationSettings, batch_size: int = 8, first_row: int = 0
    ) -> list[list[int]]:
        """Continues prompts.

        Args:
          prompts: token ids, complete: nothing is added but `start`.
          settings: how tokens are chosen.
          batch_size: prompts computed at once; the results do not depend on it.
          first_row: number of the first prompt, from which rows count as sampling sees them.

        Returns:
          The new tokens of each prompt, without the stop sequence that ended them; a stop text stays.

        Raises:
          UserError: a setting is out of range; a prompt is empty, too long for the model's positions, or holds an
            unknown id.
        """
        self.check(prompts, settings)
        return in_batches(prompts, batch_size, lambda chosen: self._batch(prompts, chosen, settings, first_row))

    def stream(
        self, prompts: Sequence[Sequence[int]], settings: GenerationSettings, chunk: int = 8
    ) -> Iterator[list[list[int]]]:
        """Yields, every `chunk` steps, the new tokens of each prompt that are certain: no part of a stop sequence.

        All prompts share one batch. Taken together the pieces are what `generate` returns.
        """
        self.check(prompts, settings)
        if settings.num_beams > 1:
            raise UserError("beam search cannot be streamed: the best beam is known at the end only")
        sent = [0] * len(prompts)
        for progress, finished in self._chunks(prompts, range(len(prompts)), settings, chunk):
            pieces = []
            for row in range(len(prompts)):
                whole = progress.tokens[row][: progress.lengths[row]]
                open_end = 0 if finished or progress.stopped[row] else progress.longest - 1
                end = max(sent[row], len(whole) - open_end)
                pieces.append(whole[sent[row] : end])
                sent[row] = end
            yield pieces

    def check(self, prompts: Sequence[Sequence[int]], settings: GenerationSettings) -> None:
        """Raises what `generate` would raise for any of the prompts."""
        settings.validate(self.config.vocab_size)
        self.layout.check(prompts, settings.max_new_tokens)
        if settings.num_beams > 1 and 1 + settings.num_single_stops > self.config.vocab_size:
            raise UserError("beam search needs a token in the vocabulary that does not stop it")

    def _batch(
        self, prompts: Sequence[Sequence[int]], chosen: Sequence[int], settings: GenerationSettings, first_row: int
    ) -> list[list[int]]:
        if settings.num_beams > 1:
            return self._search([prompts[index] for index in chosen], settings)
        for progress, _ in self._chunks(prompts, chosen, settings, settings.max_new_tokens, first_row):
            last = progress
        return [tokens[:length] for tokens, length in zip(last.tokens, last.lengths, strict=True)][: len(chosen)]

    def _search(self, prompts: Sequence[Sequence[int]], settings: GenerationSettings) -> list[list[int]]:
        batch = self.prepared.placement.batch(self.layout.batch(prompts, row_bucket(len(prompts))))
        rules = beams.BeamRules.of(settings, Stops.of(settings.stop_tokens, self.stop_texts))
        found = self._beam_search(bucket(settings.max_new_tokens))(self.prepared.params, batch, rules)
        tokens, lengths = host_values(found.tokens[:, 0, rules.stops.longest :]), host_values(found.lengths[:, 0])
        return [tokens[row, : lengths[row]].tolist() for row in range(len(prompts))]

    def _chunks(
        self,
        prompts: Sequence[Sequence[int]],
        chosen: Sequence[int],
        settings: GenerationSettings,
        chunk: int,
        first_row: int = 0,
    ) -> Iterator[tuple[Snapshot, bool]]:
        """Yields what there is after every `chunk` steps, and whether it is all."""
        numbers = np.full(row_bucket(len(chosen)), -1, np.int32)
        numbers[: len(chosen)] = np.asarray(chosen) + first_row
        batch = self.prepared.placement.batch(self.layout.batch([prompts[index] for index in chosen], len(numbers)))
        sampler = Sampler.of(settings, self.config.vocab_size)
        stops = Stops.of(settings.stop_tokens, self.stop_texts)
        progress = self._begin(bucket(settings.max_new_tokens))(self.prepared.params, batch, numbers, sampler, stops)
        until = 0
        while True:
            until = min(until + chunk, settings.max_new_tokens)
            progress = self._proceed()(self.prepared.params, progress, sampler, stops, np.int32(until))
            snapshot = Snapshot.of(progress, stops.longest)
            finished = until >= settings.max_new_tokens or all(snapshot.stopped)
            yield snapshot, finished
            if finished:
                return

    def _beam_search(self, new_tokens: int) -> Callable:
        def run(params, batch, rules):
            return beams.search(lambda: self.prepared.network(params), batch, new_tokens, rules)

        return self.prepared.program(("beams", new_tokens), run)

    def _begin(self, new_tokens: int) -> Callable:
        def run(params, batch, numbers, sampler, stops):
            return begin(self.prepared.network(params), batch, numbers, sampler, stops, new_tokens)

        return self.prepared.program(("begin", new_tokens), run)

    def _proceed(self) -> Callable:
        def run(params, progress, sampler, stops, until):
            return proceed(lambda: self.prepared.network(params), progress, sampler, stops, until)

        return self.prepared.program("proceed", run, donate_argnums=1)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What a batch has come to, on the host: tokens by row, how many of them count, which rows are done."""

    tokens: list[list[int]]
    lengths: list[int]
    stopped: list[bool]
    longest: int

    @classmethod
    def of(cls, progress: LoopState, longest: int) -> Snapshot:
        """Fetches it; `longest` is the length of the longest stop sequence."""
        tokens, lengths, stopped = map(host_values, (progress.tokens, progress.rows.lengths, progress.rows.stopped))
        return cls(tokens[:, longest:].tolist(), lengths.tolist(), stopped.tolist(), longest)


def generate(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    *,
    batch_size: int = 8,
    first_row: int = 0,
    **around: Any,
) -> list[list[int]]:
    """Continues prompts: `Generator.generate`, with what `Generator` takes as `around`."""
    return Generator(model, **around).generate(prompts, settings, batch_size, first_row)


def decoder_start(model: LoadedModel | StoredModel) -> tuple[int, ...]:
    """Returns what an encoder-decoder's decoder reads before all else; nothing for other models.

    That is what an imported model's config.json says, or else the vocabulary's bos, or else padding, as in T5.
    """
    if model.config.architecture != "encoder-decoder":
        return ()
    said = labels_start(model.origin)
    special = (model.vocabulary or {}).get("special", {})
    return (special.get("bos", model.config.pad_id) if said is None else said,)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LoopState:
    """A batch between two steps.

    Attributes:
      cache: of all tokens but the last.
      tokens: new ones, after `Stops.longest` columns of nothing.
      rows: how far they are.
    """

    cache: Cache
    tokens: Int[Array, "batch columns"]
    rows: Rows


def begin(
    model: Decoding,
    batch: dict[str, jax.Array],
    numbers: Int[Array, " batch"],
    sampler: Sampler,
    stops: Stops,
    new_tokens: int,
) -> LoopState:
    """Reads prompts and chooses the first new tokens.

    Args:
      model: one with a decoder.
      batch: prompts as `Decoding.prefill` takes them.
      numbers: of each row among all prompts; -1 for a row that only fills the batch.
      sampler: chooses.
      stops: what ends a row.
      new_tokens: room for new tokens.
    """
    hidden, cache = model.prefill(batch, batch["decoder_input_tokens"].shape[1] + new_tokens)
    progress = LoopState(cache, stops.empty(len(numbers), new_tokens), Rows.begin(numbers))
    return _chosen(progress, model.next_logits(hidden), sampler, stops)


def proceed(
    network: Callable[[], Decoding], progress: LoopState, sampler: Sampler, stops: Stops, until: Int[Array, ""]
) -> LoopState:
    """Chooses tokens until rows have `until` of them, or all have stopped; `network` is made within the loop."""

    def one_more(progress: LoopState) -> LoopState:
        newest = jax.lax.dynamic_slice_in_dim(progress.tokens, progress.rows.step + stops.longest - 1, 1, axis=1)
        model = network()
        hidden, cache = model.extend(newest, progress.cache)
        return _chosen(dataclasses.replace(progress, cache=cache), model.next_logits(hidden), sampler, stops)

    return jax.lax.while_loop(lambda progress: progress.rows.unfinished(until), one_more, progress)


def _chosen(progress: LoopState, logits: Float[Array, "batch vocab"], sampler: Sampler, stops: Stops) -> LoopState:
    rows = progress.rows
    token = sampler.choose(logits, rows.numbers, rows.step)
    tokens = jax.lax.dynamic_update_slice_in_dim(progress.tokens, token[:, None], rows.step + stops.longest, axis=1)
    last = jax.lax.dynamic_slice_in_dim(tokens, rows.step + 1, stops.longest, axis=1)
    return dataclasses.replace(progress, tokens=tokens, rows=rows.after(last, stops))


class PreparedModel:
    """What generation needs of a loaded model.

    On a CPU it holds the parameters a second time. A step reads all of them for the sake of a few tokens, so there the
    layers lie apart, not stacked, and kernels transposed: XLA's product of few rows with a row-major kernel takes half
    as long again.
    """

    def __init__(self, model: LoadedModel):
        self.config = model.config
        self.placement = model.placement
        self._network, self._relaid = model.network, None
        if jax.default_backend() == "cpu":
            stacked, apart = model.network, model.network.unrolled()
            self._network = apart
            self._relaid = jax.jit(lambda params: _transposed(apart, stacked.unroll(params)))
        self._programs: dict[Any, Callable] = {}
        self.read(model)

    def read(self, model: LoadedModel) -> None:
        """Takes the model's parameters, unless it has them; programs stay compiled."""
        if getattr(self, "_source", None) is model.params:
            return
        self._source = model.params
        self.params = model.params if self._relaid is None else self._relaid(model.params)

    def network(self, params: Tree) -> Transformer:
        """Returns the network with `params`. Called within a loop's body it leaves kernels where they are."""
        return self._network.merge(params if self._relaid is None else _transposed(self._network, params))

    def program(self, key: Any, function: Callable, **options: Any) -> Callable:
        """Returns `function(params, ...)` compiled; the first one given under `key`."""
        if key not in self._programs:
            self._programs[key] = jax.jit(function, **options)
        return self._programs[key]


_PREPARED: weakref.WeakKeyDictionary[LoadedModel, PreparedModel] = weakref.WeakKeyDictionary()


def prepare(model: LoadedModel) -> PreparedModel:
    """Returns the model prepared, the same object for as long as the model lives."""
    if model not in _PREPARED:
        _PREPARED[model] = PreparedModel(model)
    _PREPARED[model].read(model)
    return _PREPARED[model]


def _transposed(network: Network, params: Tree) -> Tree:
    """Transposes the kernels, back and forth."""
    kernels = {name for name, spec in network.specs.items() if spec.kind == "kernel"}
    return unflatten({name: x.swapaxes(-2, -1) if name in kernels else x for name, x in flatten(params).items()})

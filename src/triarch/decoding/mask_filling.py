"""Encoders write by filling masks: those of a text, or ones put behind it, the first of them again and again.

Text out of an encoder: three masks are put behind the prompt, the first is filled, another is put behind the last, and
so on (Samuel 2024, arXiv 2406.04823; so did Ettin, arXiv 2507.11412). There is no cache: every token sees all others,
so each new one changes everything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from triarch.decoding.generator import prepare
from triarch.decoding.prompts import bucket, in_batches, num_places, row_bucket
from triarch.decoding.sampling import Sampler
from triarch.decoding.settings import GenerationSettings
from triarch.decoding.stopping import Rows, Stops, StopTexts
from triarch.errors import UserError
from triarch.interchange import LoadedModel, require_tokens
from triarch.interchange.placement import host_values
from triarch.models import Transformer

NUM_MASKS = 3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Filling:
    """Texts in the making.

    Attributes:
      tokens: the texts, after `Stops.longest` columns of nothing; what is not filled yet is mask.
      ends: tokens of each text before its first mask, when texts grow; its length, when masks are in its midst.
      rows: how far they are.
    """

    tokens: Int[Array, "batch columns"]
    ends: Int[Array, " batch"]
    rows: Rows


def fill_masks(
    model: LoadedModel, texts: Sequence[Sequence[int]], mask: int, settings: GenerationSettings, batch_size: int = 8
) -> list[list[int]]:
    """Fills the masks of texts, from the left, each choice seen by the next.

    Args:
      model: encoder-only.
      texts: token ids, complete.
      mask: id of the mask.
      settings: how tokens are chosen; `max_new_tokens` and `stop_tokens` do not matter.
      batch_size: texts computed at once; the results do not depend on it.

    Returns:
      The texts without masks.

    Raises:
      UserError: a setting is out of range, a text is empty or too long, has no mask or an unknown id; the model has a
        decoder.
    """
    masks = [sum(token == mask for token in text) for text in texts]
    settings = dataclasses.replace(settings, max_new_tokens=max([1, *masks]), stop_tokens=())
    check_texts(model, texts, settings, 0)
    if 0 in masks:
        raise UserError(f"prompt {masks.index(0) + 1} has no mask to fill")

    def run(chosen: Sequence[int]) -> list[list[int]]:
        filling = _run(model, [texts[index] for index in chosen], chosen, mask, settings, Stops.of(()), None)
        tokens = host_values(filling.tokens)[:, 1:]
        return [tokens[row, : len(texts[index])].tolist() for row, index in enumerate(chosen)]

    return in_batches(texts, batch_size, run)


def generate_by_masks(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    mask: int,
    settings: GenerationSettings,
    after: Sequence[int] = (),
    batch_size: int = 8,
    first_row: int = 0,
    stop_texts: StopTexts | None = None,
) -> list[list[int]]:
    """Continues prompts with an encoder, mask by mask.

    Args:
      model: encoder-only.
      prompts: token ids, complete but for `after`.
      mask: id of the mask.
      settings: how tokens are chosen.
      after: what always stands behind the masks ([SEP]).
      batch_size: prompts computed at once; the results do not depend on it.
      first_row: number of the first prompt, from which rows count as sampling sees them.
      stop_texts: texts that end a row, None for none.

    Returns:
      The new tokens of each prompt, without the stop sequence that ended them; a stop text stays.

    Raises:
      UserError: a setting is out of range; a prompt is empty, too long for the model's positions, or holds an unknown
        id; the model has a decoder.
    """
    check_texts(model, prompts, settings, places_behind(settings.max_new_tokens, after))
    stops = Stops.of(settings.stop_tokens, stop_texts)

    def run(chosen: Sequence[int]) -> list[list[int]]:
        numbers = [index + first_row for index in chosen]
        filling = _run(model, [prompts[index] for index in chosen], numbers, mask, settings, stops, tuple(after))
        tokens, lengths = host_values(filling.tokens), host_values(filling.rows.lengths)
        firsts = [stops.longest + len(prompts[index]) for index in chosen]
        return [tokens[row, first : first + lengths[row]].tolist() for row, first in enumerate(firsts)]

    return in_batches(prompts, batch_size, run)


def places_behind(max_new_tokens: int, after: Sequence[int]) -> int:
    """Returns how many tokens stand behind a prompt when the last of the new ones is chosen."""
    return max_new_tokens - 1 + NUM_MASKS + len(after)


def check_texts(model: LoadedModel, texts: Sequence[Sequence[int]], settings: GenerationSettings, more: int) -> None:
    """Raises UserError for what cannot be done with texts and `more` tokens behind them."""
    config = model.config
    require_tokens(model)
    if config.architecture != "encoder-only":
        raise UserError(f"{config.architecture} models continue a text; only an encoder fills masks")
    settings.validate(config.vocab_size)
    if settings.num_beams > 1:
        raise UserError(f"num_beams={settings.num_beams}: beam search is for models with a decoder")
    places = num_places(config)
    for number, text in enumerate(texts, 1):
        if not len(text):
            raise UserError(f"prompt {number} is empty")
        if not 0 <= min(text) <= max(text) < config.vocab_size:
            found = f"ids from {min(text)} to {max(text)}"
            raise UserError(f"prompt {number} holds {found}, the model knows 0 to {config.vocab_size - 1}")
        if places is not None and len(text) + more > places:
            needs = f" and needs {more} more" if more else ""
            raise UserError(f"prompt {number} has {len(text)} tokens{needs}, the model has positions for {places}")


def _run(
    model: LoadedModel,
    texts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    mask: int,
    settings: GenerationSettings,
    stops: Stops,
    after: tuple[int, ...] | None,
) -> Filling:
    """Fills masks within texts (`after` is None), or behind them."""
    prepared = prepare(model)
    sampler = Sampler.of(settings, model.config.vocab_size)
    more = 0 if after is None else places_behind(settings.max_new_tokens, after)
    length, places = bucket(max(map(len, texts)) + more), num_places(model.config)
    length = length if places is None else min(length, places)
    rows = row_bucket(len(texts))
    tokens = np.full((rows, stops.longest + length), mask, np.int32)
    tokens[:, : stops.longest] = -1
    ends = np.zeros(rows, np.int32)
    for row, text in enumerate(texts):
        tokens[row, stops.longest : stops.longest + len(text)] = text
        ends[row] = len(text)
    padded = np.full(rows, -1, np.int32)
    padded[: len(numbers)] = numbers
    begun = Filling(jnp.asarray(tokens), jnp.asarray(ends), Rows.begin(jnp.asarray(padded)))

    def run(params, filling, sampler, stops, mask, until):
        return _fill(lambda: prepared.network(params), filling, sampler, stops, mask, until, after)

    program = prepared.program(("masks", after), run)
    return program(prepared.params, begun, sampler, stops, np.int32(mask), np.int32(settings.max_new_tokens))


def _fill(
    network: Callable[[], Transformer],
    filling: Filling,
    sampler: Sampler,
    stops: Stops,
    mask: Int[Array, ""],
    until: Int[Array, ""],
    after: tuple[int, ...] | None,
) -> Filling:
    def one_more(filling: Filling) -> Filling:
        rows, texts = filling.rows, filling.tokens[:, stops.longest :]
        if after is None:
            inputs, real = texts, jnp.arange(texts.shape[1]) < filling.ends[:, None]
            masked = (texts == mask) & real
            places = jnp.argmax(masked, axis=1)
            rows = dataclasses.replace(rows, stopped=rows.stopped | ~jnp.any(masked, axis=1))
        else:
            places = filling.ends + rows.step
            inputs, real = _with_masks(texts, places, mask, after)
        batch = {"encoder_input_tokens": inputs, "encoder_segment_ids": real.astype(jnp.int32)}
        logits = _logits_at(network(), batch, places).at[:, mask].set(-jnp.inf)
        chosen = sampler.choose(logits, rows.numbers, rows.step)
        here = (jnp.arange(texts.shape[1]) == places[:, None]) & ~rows.stopped[:, None]
        texts = jnp.where(here, chosen[:, None], texts)
        tokens = filling.tokens.at[:, stops.longest :].set(texts)
        last = jnp.take_along_axis(tokens, places[:, None] + 1 + jnp.arange(stops.longest), axis=1)
        # The prompt is no part of a stop sequence.
        last = jnp.where(jnp.arange(stops.longest)[::-1] <= rows.step, last, -1)
        return Filling(tokens, filling.ends, rows.after(last, stops))

    return jax.lax.while_loop(lambda filling: filling.rows.unfinished(until), one_more, filling)


def _with_masks(
    texts: Int[Array, "batch length"], ends: Int[Array, " batch"], mask: Int[Array, ""], after: tuple[int, ...]
) -> tuple[Int[Array, "batch length"], Bool[Array, "batch length"]]:
    """Returns texts that end at `ends`, then masks and what comes after them; and which columns are real."""
    columns = jnp.arange(texts.shape[1]) - ends[:, None]
    tokens = jnp.where(columns < 0, texts, mask)
    for place, token in enumerate(after):
        tokens = jnp.where(columns == NUM_MASKS + place, token, tokens)
    return tokens, columns < NUM_MASKS + len(after)


def _logits_at(
    model: Transformer, batch: dict[str, jax.Array], columns: Int[Array, " batch"]
) -> Float[Array, "batch vocab"]:
    hidden = model.hidden(batch)
    return model.unembedding().logits(jnp.take_along_axis(hidden, columns[:, None, None], axis=1)[:, 0])

"""A loaded model that reads and writes text: what `triarch.load` gives.

What a model reads around a text is what its training put there, or, of an imported model, what its tokenizer puts
there: `read` shows it. A decoder trained here reads the vocabulary's bos first, always; without it, or with another
token, its loss is another one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from triarch.decoding import Conventions, GenerationSettings, Writer, rolling, score
from triarch.decoding.chat import Chat
from triarch.decoding.prompt_texts import check_stops, decode, encode
from triarch.decoding.prompts import bucket, num_places, padded, row_bucket
from triarch.decoding.scoring import Continuation, Pseudo
from triarch.errors import UserError, nearest
from triarch.evaluation.embedding import embed
from triarch.evaluation.few_shot.reading import Frame, Reader
from triarch.evaluation.states import hidden_states
from triarch.interchange import LoadedModel
from triarch.interchange.embedder import Embedder
from triarch.models.pooling import Pooling
from triarch.objectives import SpecialTokens, documents

if TYPE_CHECKING:
    from triarch.tokenizers import Tokenizer

Pair = tuple[str, str]
# What is read at once of a model whose positions have no end, as in `triarch evaluate --tasks`.
_LENGTH = 2048
# Settings that are the model's, not the caller's.
_OWN = ("first_token", "stop_tokens")


@dataclasses.dataclass(frozen=True)
class TextScore:
    """What a model makes of a text, or of a continuation.

    Attributes:
      log_likelihood: in nats, summed over its tokens; of an encoder the pseudo-log-likelihood.
      num_tokens: how many were scored.
      num_bytes: of the scored text, as UTF-8.
      is_greedy: whether each token is the likeliest where it stands.
    """

    log_likelihood: float
    num_tokens: int
    num_bytes: int
    is_greedy: bool

    @property
    def nats_per_token(self) -> float:
        return -self.log_likelihood / self.num_tokens

    @property
    def bits_per_byte(self) -> float:
        return -self.log_likelihood / np.log(2) / self.num_bytes

    @property
    def perplexity(self) -> float:
        return float(np.exp(self.nats_per_token))


@dataclasses.dataclass(eq=False)
class Model(LoadedModel):
    """A network with its parameters and its tokenizer, of whatever run, export or Hugging Face folder.

    Attributes:
      given_tokenizer: the tokenizer, where it was opened already.
    """

    given_tokenizer: Tokenizer | None = None

    @classmethod
    def of(cls, loaded: LoadedModel, tokenizer: Tokenizer | None = None) -> Model:
        """Returns a loaded model as one that reads text."""
        fields = {field.name: getattr(loaded, field.name) for field in dataclasses.fields(LoadedModel)}
        return cls(**fields, given_tokenizer=tokenizer)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model's vocabulary.

        Raises:
          UserError: the vocabulary is unknown, or its files are missing or damaged.
        """
        from triarch.loading import tokenizer_of

        return self.given_tokenizer or tokenizer_of(self)

    @functools.cached_property
    def special(self) -> SpecialTokens:
        """Ids with a meaning of their own: pad, bos, eos, mask, sentinels, modes."""
        return SpecialTokens.from_manifest(self.tokenizer.info.special)

    def tokenize(self, text: str) -> list[int]:
        """Returns a text's ids, nothing around them; "[MASK]" is the mask, "<extra_id_0>" the first sentinel.

        Raises:
          UserError: the vocabulary has no mask, or no such sentinel.
        """
        return encode(text, self.tokenizer, self.special).tolist()

    def detokenize(self, ids: Sequence[int]) -> str:
        """Returns the text of ids, special tokens left out, but sentinels."""
        return decode([int(index) for index in ids], self.tokenizer, self.special)

    def read(self, text: str) -> list[int]:
        """Returns what is read of a text: its ids with what training, or the tokenizer, puts around them."""
        after = () if self.config.architecture == "decoder-only" else self._frame.after
        return [*self._frame.before, *self.tokenize(text), *after]

    def logits(self, inputs: Mapping[str, np.ndarray] | str | Pair | Sequence[str | Pair], batch_size: int = 8) -> Any:
        """Returns float32 logits.

        Args:
          inputs: one of:
            a batch of int arrays [batch, length] by SeqIO's names, as `LoadedModel.logits` takes it. Where it holds
            `decoder_target_tokens` and no `decoder_input_tokens`, the targets are shifted: before the first token of a
            row, or of each of its `decoder_segment_ids`, the decoder reads the token that it was trained to read first.
            Row i is then what predicts target i. [batch, length, vocab].
            A text: [length of `read(text)`, vocab], for each id that is read what follows it (of an encoder: what
            stands there).
            A pair (context, text), as an encoder-decoder needs it: [ids of the text, vocab], row i predicts id i.
            A list of texts and pairs: a list of arrays.
          batch_size: texts computed at once.

        Raises:
          UserError: an input is missing, misshapen, too long or holds an unknown id, or an encoder-decoder is given no
            pair.
        """
        if isinstance(inputs, Mapping):
            return super().logits(self._shifted(inputs))
        texts, alone = _listed(inputs)
        rows = [self._row(one, number) for number, one in enumerate(texts, 1)]
        found: list[np.ndarray] = [np.zeros(0)] * len(rows)
        side = "encoder" if self.config.architecture == "encoder-only" else "decoder"
        for chosen, batch in self._batches([row for row, _ in rows], batch_size):
            values = super().logits(batch)
            for index, row in zip(chosen, values, strict=False):
                end = len(rows[index][0][side])
                start = end - rows[index][1]
                found[index] = row[start:end]
        return found[0] if alone else found

    def score(
        self,
        inputs: str | Pair | Sequence[str | Pair],
        *,
        max_length: int | None = None,
        pseudo: Pseudo = "token",
        batch_size: int = 32,
    ) -> Any:
        """Returns the log-likelihood of texts, or of continuations: a `TextScore`, or a list of them.

        Args:
          inputs: a text, a pair (context, continuation), or a list of them. A text longer than `max_length` is read in
            windows, as lm-evaluation-harness does, each token scored once.
          max_length: tokens read at once; None for the model's positions, or 2048.
          pseudo: what an encoder finds masked with each token, see `triarch.decoding.score`.
          batch_size: rows computed at once.

        Raises:
          UserError: a text has no tokens, or a continuation is longer than `max_length`.
        """
        texts, alone = _listed(inputs)
        places = num_places(self.config)
        length = (places or _LENGTH) if max_length is None else max_length
        requests = [self._continuations(one, length, number) for number, one in enumerate(texts, 1)]
        found = score(
            self,
            [part for parts in requests for part in parts],
            max_length=length,
            start=self._frame.decoder_start,
            bidirectional_context=self._conventions.bidirectional_prompt,
            pseudo=pseudo,
            batch_size=batch_size,
        )
        scores = []
        for one, parts in zip(texts, requests, strict=True):
            own, found = found[: len(parts)], found[len(parts) :]
            scored = one if isinstance(one, str) else one[1]
            scores.append(
                TextScore(
                    log_likelihood=float(sum(part.log_likelihood for part in own)),
                    num_tokens=sum(len(part.tokens) for part in parts),
                    num_bytes=len(scored.encode()),
                    is_greedy=all(part.is_greedy for part in own),
                )
            )
        return scores[0] if alone else scores

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
        mode: str | None = None,
        batch_size: int = 8,
        **settings: Any,
    ) -> Any:
        """Returns what the model writes after each prompt: a text, or a list of texts.

        A decoder continues the prompt, an encoder-decoder answers it, an encoder fills its masks ("[MASK]"; the whole
        text is returned) or, where it has none, continues it mask by mask.

        Args:
          prompts: a text, or a list of texts.
          stop: texts that end an answer, and are left out of it.
          ignore_eos: go on when the model ends its text.
          mode: UL2's mode token before prompts; None for that of the model's prefix LM.
          batch_size: prompts computed at once.
          settings: fields of `GenerationSettings`: max_new_tokens, temperature, top_k, top_p, min_p, num_beams,
            length_penalty, seed.

        Raises:
          UserError: a setting is unknown or out of range, a prompt is empty or too long.
        """
        texts, alone = _listed(prompts)
        check_stops(stop, self.tokenizer, "stop")
        chosen = _settings(settings, "generate")
        writer = Writer.of(self, self.tokenizer, chosen, stops=stop, ignore_eos=ignore_eos, mode=mode)
        answers = writer.write([writer.encode(text) for text in texts], batch_size)
        written = [self._written(text, tokens, stop) for text, tokens in zip(texts, answers, strict=True)]
        return written[0] if alone else written

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]]],
        *,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
        batch_size: int = 8,
        **settings: Any,
    ) -> Any:
        """Returns the assistant's next message: a text, or of a list of conversations a list of texts.

        Conversations are written by the tokenizer's chat template, and an answer ends where that ends a message.

        Args:
          messages: a list of {"role": "user", "content": "..."} and the like, the last one not the assistant's; or a
            list of such lists.
          stop: texts that end an answer, and are left out of it.
          ignore_eos: go on when the model ends its message.
          batch_size: conversations computed at once.
          settings: as of `generate`.

        Raises:
          UserError: the tokenizer has no chat template, or it fails; a setting is unknown or out of range.
        """
        alone = bool(messages) and isinstance(messages[0], Mapping)
        conversations = cast(Any, [messages] if alone else messages)
        check_stops(stop, self.tokenizer, "stop")
        chat = Chat.of(self.tokenizer, str(self.path))
        stops = chat.cuts(stop, ignore_eos)
        chosen = _settings(settings, "chat")
        writer = Writer.of(self, self.tokenizer, chosen, stops=stops, ignore_eos=ignore_eos, more_ends=chat.ends)
        prompts = [chat.prompt(one, f"conversation {number}") for number, one in enumerate(conversations, 1)]
        texts = [self.detokenize(tokens) for tokens in writer.write(prompts, batch_size)]
        cut = [text[: min((place for place in map(text.find, stops) if place >= 0), default=None)] for text in texts]
        return cut[0] if alone else cut

    def states(self, texts: str | Sequence[str], batch_size: int = 8) -> Any:
        """Returns the hidden states of texts: {"encoder" or "decoder": float32[layers + 1, length, d_model]} for each.

        State 0 is what the first layer reads, state n what layer n gives, the last one after the final norm, as
        `hidden_states` of transformers. Columns are the ids of `read(text)`. An encoder-decoder's are its encoder's.

        Args:
          texts: a text, or a list of texts, for a list of results.
          batch_size: texts computed at once.

        Raises:
          UserError: a text is empty or too long.
        """
        given, alone = _listed(texts)
        found = [{self._side: states} for states in self._run(given, batch_size, hidden_states)]
        return found[0] if alone else found

    def embed(
        self,
        texts: str | Sequence[str],
        pooling: Pooling | None = None,
        batch_size: int = 32,
        *,
        normalize: bool | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        max_length: int | None = None,
    ) -> np.ndarray:
        """Returns float32 vectors [texts, d_model], or [d_model] for one text, of the last hidden states.

        Those of an encoder-decoder are of its encoder. What is left out is as the model was trained to embed texts
        (`Contrast`), or as its sentence-transformers folder says; of other models the mean, not normalised.

        Args:
          texts: a text, or a list of texts.
          pooling: the "mean" over all ids that are read, the state of the first one ("cls") or of the "last" one.
          batch_size: texts computed at once.
          normalize: whether vectors are scaled to length 1.
          prompt: put before each text.
          prompt_name: of a prompt that the model knows ("query"), likewise.
          max_length: tokens read of a text at most, those around it included; the rest is cut off.

        Raises:
          UserError: a text is empty, or there is no such pooling or prompt.
        """
        given, alone = _listed(texts)
        embedder = self.embedder(pooling, normalize)
        vectors = embed(
            self,
            self.tokenizer,
            given,
            embedder,
            prompt=embedder.prompt(prompt, prompt_name),
            max_length=max_length,
            batch_size=batch_size,
        ).vectors
        return vectors[0] if alone else vectors

    def embedder(self, pooling: Pooling | None = None, normalize: bool | None = None) -> Embedder:
        """Returns how the model embeds texts, with what is given in place of its own.

        Raises:
          UserError: there is no such pooling.
        """
        changed = {"pooling": pooling, "normalize": normalize}
        chosen = {name: value for name, value in changed.items() if value is not None}
        return dataclasses.replace(Embedder.of(self.origin), **cast(Any, chosen)).checked("embed")

    @functools.cached_property
    def _conventions(self) -> Conventions:
        return Conventions.of(self, tokenizer_frame=getattr(self.tokenizer, "frame", None))

    @functools.cached_property
    def _frame(self) -> Frame:
        return Frame.of(self, getattr(self.tokenizer, "frame", None))

    @functools.cached_property
    def _reader(self) -> Reader:
        return Reader(self.tokenizer, self._frame, self.config.architecture)

    @property
    def _side(self) -> str:
        return "decoder" if self.config.architecture == "decoder-only" else "encoder"

    def _shifted(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns a batch with what the decoder reads to predict the targets, where it has targets alone."""
        batch = {name: np.asarray(values) for name, values in batch.items()}
        if "decoder_target_tokens" not in batch or "decoder_input_tokens" in batch:
            return batch
        targets = batch["decoder_target_tokens"]
        segments = batch.get("decoder_segment_ids", np.ones_like(targets))
        first = self._frame.decoder_start[0] if self._frame.decoder_start else self._frame.prefix
        rows = [documents.shift_right(row, first, own) for row, own in zip(targets, segments, strict=True)]
        return batch | {"decoder_input_tokens": np.stack(rows)}

    def _row(self, one: str | Pair, number: int) -> tuple[dict[str, Any], int]:
        """Returns what each side reads of a text or pair, and from how many last columns logits are wanted."""
        if isinstance(one, str):
            if self.config.architecture == "encoder-decoder":
                raise UserError(f"text {number}: an encoder-decoder reads a pair (context, text), not a text alone")
            read = self._read(one, number)
            return {self._side: read}, len(read)
        request = self._reader.pair(*one)
        context = [*request.before, *request.context]
        if self.config.architecture == "encoder-only":
            raise UserError(f"text {number}: an encoder reads a text, not a pair")
        if self.config.architecture == "encoder-decoder":
            return {"encoder": context, "decoder": [*self._frame.decoder_start, *request.tokens[:-1]]}, len(
                request.tokens
            )
        seen = len(context) if self._conventions.bidirectional_prompt else 0
        return {"decoder": [*context, *request.tokens[:-1]], "seen": seen}, len(request.tokens)

    def _read(self, text: str, number: int) -> list[int]:
        read = self.read(text)
        if not read:
            raise UserError(f"text {number} is empty")
        return read

    def _run(self, texts: Sequence[str], batch_size: int, function: Any) -> list[np.ndarray]:
        """Returns `function` of the model and each text, [..., length, d_model], without padding."""
        rows = [{self._side: self._read(text, number)} for number, text in enumerate(texts, 1)]
        if self.config.architecture == "encoder-decoder":
            rows = [row | {"decoder": list(self._frame.decoder_start)} for row in rows]
        found: list[np.ndarray] = [np.zeros(0)] * len(rows)
        for chosen, batch in self._batches(rows, batch_size):
            self._check(batch)
            values = self.compiled(function)(batch)
            for place, index in enumerate(chosen):
                found[index] = values[place][..., : len(rows[index][self._side]), :]
        return found

    def _batches(
        self, rows: Sequence[Mapping[str, Any]], batch_size: int
    ) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
        """Yields the numbers of rows of like lengths, and their features; the last row fills a batch."""
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: expected at least 1")
        places = num_places(self.config)
        sides = ("encoder", "decoder")
        order = sorted(range(len(rows)), key=lambda index: max(len(rows[index].get(side, ())) for side in sides))
        for first in range(0, len(rows), batch_size):
            chosen = order[first : first + batch_size]
            batch = {}
            for side in (side for side in sides if side in rows[chosen[0]]):
                read = [rows[index][side] for index in chosen]
                longest = max(map(len, read))
                if places is not None and longest > places:
                    raise UserError(f"a text has {longest} tokens, the model has positions for {places}")
                length = bucket(longest) if places is None else min(bucket(longest), places)
                tokens, real = padded(read, row_bucket(len(chosen)), length, left=False)
                batch |= {f"{side}_input_tokens": tokens, f"{side}_segment_ids": real}
            if any(rows[index].get("seen") for index in chosen):
                seen = np.zeros_like(batch["decoder_input_tokens"])
                for place, index in enumerate(chosen):
                    seen[place, : rows[index]["seen"]] = 1
                batch["decoder_causal_attention"] = seen
            yield chosen, batch

    def _continuations(self, one: str | Pair, length: int, number: int) -> list[Continuation]:
        if not isinstance(one, str):
            return [self._reader.pair(*one)]
        request = self._reader.pair("", one)
        if self.config.architecture != "decoder-only" or len(request.tokens) <= length:
            return [request]
        windows = rolling(request.tokens, self._frame.prefix, length)
        return [Continuation(context, tokens) for context, tokens in windows]

    def _written(self, prompt: str, tokens: Sequence[int], stops: Sequence[str]) -> str:
        """Returns the text of new tokens, which depends on those before them, up to the first stop text."""
        context = self.tokenize(prompt) if self.config.architecture == "decoder-only" else []
        before, whole = self.detokenize(context), self.detokenize([*context, *tokens])
        text = whole[len(before) :] if whole.startswith(before) else self.detokenize(tokens)
        return text[: min((place for place in map(text.find, stops) if place >= 0), default=len(text))]


def _settings(given: Mapping[str, Any], name: str) -> GenerationSettings:
    """Returns settings by their names, as the function `name` was given them."""
    known = [field.name for field in dataclasses.fields(GenerationSettings) if field.name not in _OWN]
    for one in given:
        if one not in known:
            raise UserError(f"{name} has no setting {one!r}{nearest(one, known)}")
    return GenerationSettings(**given)


def _listed(inputs: Any) -> tuple[list[Any], bool]:
    """Returns texts or pairs as a list, and whether there was one alone: a text, or a tuple of two."""
    alone = isinstance(inputs, str) or (isinstance(inputs, tuple) and len(inputs) == 2)
    listed = [inputs] if alone else list(inputs)
    for number, one in enumerate(listed, 1):
        is_pair = isinstance(one, tuple | list) and len(one) == 2 and all(isinstance(part, str) for part in one)
        if not isinstance(one, str) and not is_pair:
            raise UserError(f"input {number}: expected a text or a pair of texts, found {type(one).__name__}")
    if not listed:
        raise UserError("no text: the list is empty")
    return listed, alone

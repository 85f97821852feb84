"""A loaded model as lm-evaluation-harness asks it: likelihoods of continuations and texts, and generated text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from triarch.decoding import GenerationSettings, StopTexts, generate, generate_by_masks
from triarch.decoding.mask_filling import places_behind
from triarch.decoding.scoring import Continuation, Pseudo, rolling, score
from triarch.errors import UserError
from triarch.evaluation.few_shot.answers import Answers
from triarch.evaluation.few_shot.reading import Reader
from triarch.interchange import LoadedModel
from triarch.progress import Progress

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

_NEW_TOKENS = 256  # The harness's own default.
_SIZE_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SAMPLING = ("temperature", "top_k", "top_p", "min_p")


class HarnessModel(LM):
    """Answers the harness's requests; those that were answered before are not computed again."""

    def __init__(
        self,
        model: LoadedModel,
        reader: Reader,
        answers: Answers,
        *,
        max_length: int,
        batch_size: int,
        bidirectional: bool,
        pseudo: Pseudo,
        progress: Progress,
        label: str = "",
    ):
        super().__init__()
        self.model = model
        self.reader = reader
        self.answers = answers
        self.max_length = max_length
        self.batch_size = batch_size
        self.bidirectional = bidirectional
        self.pseudo = pseudo
        self.progress = progress
        self.label = label

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Returns (log-likelihood, is greedy) of continuations; of an encoder, the pseudo-log-likelihood."""

        def compute(missing: list[tuple[str, str]], done: Callable[[int, Any], None]) -> None:
            made = [self.reader.pair(*arguments) for arguments in missing]
            self._score(made, lambda index, one: done(index, [one.log_likelihood, one.is_greedy]))

        return [(total, greedy) for total, greedy in self._answered("loglikelihood", requests, compute)]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Returns log-likelihoods of whole texts, longer ones in windows that predict each token once."""
        if self.model.config.architecture == "encoder-only":
            raise UserError(
                f"task {_task(requests)} asks for the likelihood of whole texts, which an encoder does not have: "
                "evaluate it on tasks of continuations, or on stores (pseudo-likelihood)"
            )

        def compute(missing: list[tuple[str]], done: Callable[[int, Any], None]) -> None:
            windows, owners = [], []
            for index, (text,) in enumerate(missing):
                for window in rolling(self.reader.text(text), self.reader.frame.prefix, self.max_length):
                    windows.append(Continuation(*window))
                    owners.append(index)
            totals, left = [0.0] * len(missing), [owners.count(index) for index in range(len(missing))]

            def add(window: int, one: Any) -> None:
                index = owners[window]
                totals[index] += one.log_likelihood
                left[index] -= 1
                if not left[index]:
                    done(index, totals[index])

            for index in range(len(missing)):
                if not left[index]:
                    done(index, 0.0)  # An empty text.
            self._score(windows, add)

        return self._answered("loglikelihood_rolling", requests, compute)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Returns generated texts, up to the first stop string."""

        def compute(missing: list[tuple[str, dict]], done: Callable[[int, Any], None]) -> None:
            groups: dict[str, list[int]] = {}
            for index, (_, options) in enumerate(missing):
                groups.setdefault(repr(sorted(options.items(), key=str)), []).append(index)
            for indices in groups.values():
                options = missing[indices[0]][1]
                settings, until = self._settings(options), _stops(options)
                # Beams end by tokens alone, as in the harness.
                has_texts = until and settings.num_beams == 1
                stop_texts = StopTexts.of(until, self.reader.tokenizer.token_texts) if has_texts else None
                room = self._room(settings.max_new_tokens)
                prompts = {index: self.reader.prompt(missing[index][0], room) for index in indices}
                indices.sort(key=lambda index: len(prompts[index]), reverse=True)
                for first in range(0, len(indices), self.batch_size):
                    batch = indices[first : first + self.batch_size]
                    written = self._generate([prompts[index] for index in batch], settings, stop_texts, first)
                    for index, tokens in zip(batch, written, strict=True):
                        done(index, _until(self.reader.tokenizer.decode(tokens), until))

        return self._answered("generate_until", requests, compute)

    def _answered(
        self, kind: str, requests: Sequence[Instance], compute: Callable[[list, Callable[[int, Any], None]], None]
    ) -> list[Any]:
        """Returns answers, computing those that are not known yet, each one once."""
        asked = [request.args for request in requests]
        found = [None if _is_sampled(arguments) else self.answers.get(kind, arguments) for arguments in asked]
        # Equal requests are computed once; draws at random are each their own.
        alike: dict[Any, list[int]] = {}
        for index, arguments in enumerate(asked):
            if found[index] is None:
                alike.setdefault(index if _is_sampled(arguments) else repr(arguments), []).append(index)
        groups = list(alike.values())
        self.progress.start(f"{self.label} {_task(requests)}: {kind}".strip(), len(asked))
        self.progress.advance(len(asked) - sum(map(len, groups)))

        def done(number: int, answer: Any) -> None:
            arguments = asked[groups[number][0]]
            for index in groups[number]:
                found[index] = answer
            if not _is_sampled(arguments):
                self.answers.add(kind, arguments, answer)
            self.progress.advance(len(groups[number]))

        if groups:
            compute([asked[group[0]] for group in groups], done)
        return found

    def _score(self, made: list, done: Callable[[int, Any], None]) -> None:
        score(
            self.model,
            made,
            max_length=self.max_length,
            start=self.reader.frame.decoder_start,
            bidirectional_context=self.bidirectional,
            pseudo=self.pseudo,
            batch_size=self.batch_size,
            done=done,
        )

    def _generate(
        self, prompts: list[list[int]], settings: GenerationSettings, stop_texts: StopTexts | None, first_row: int
    ) -> list[list[int]]:
        if self.model.config.architecture == "encoder-only":
            mask = self.model.known_vocabulary["special"]["mask"]
            if mask is None:
                raise UserError(f"{self.model.path}: its vocabulary has no mask token, which an encoder writes with")
            after = self.reader.frame.after
            return generate_by_masks(self.model, prompts, mask, settings, after, self.batch_size, first_row, stop_texts)
        return generate(
            self.model,
            prompts,
            settings,
            start=self.reader.frame.decoder_start,
            bidirectional_prompt=self.bidirectional,
            stop_texts=stop_texts,
            batch_size=self.batch_size,
            first_row=first_row,
        )

    def _room(self, new_tokens: int) -> int:
        architecture = self.model.config.architecture
        if architecture == "encoder-decoder":
            return self.max_length
        behind = places_behind(new_tokens, self.reader.frame.after) if architecture == "encoder-only" else new_tokens
        room = self.max_length - behind
        if room < 1:
            raise UserError(
                f"the task generates up to {new_tokens} tokens, and --max_length={self.max_length} leaves none for the "
                "prompt"
            )
        return room

    def _settings(self, options: dict[str, Any]) -> GenerationSettings:
        count = next((options[name] for name in _SIZE_NAMES if name in options), _NEW_TOKENS)
        chosen = {name: options[name] for name in _SAMPLING if name in options} if _is_sampled(("", options)) else {}
        if options.get("num_beams", 1) != 1:
            chosen = {"num_beams": options["num_beams"]}
        frame = self.reader.frame
        ends = tuple((end,) for end in frame.ends)
        settings = GenerationSettings(
            count, first_token=frame.first_token, last_token=frame.last_token, stop_tokens=ends, **chosen
        )
        settings.validate(self.model.config.vocab_size)
        return settings


def _stops(options: dict[str, Any]) -> list[str]:
    until = options.get("until") or []
    return [text for text in ([until] if isinstance(until, str) else until) if text]


def _is_sampled(arguments: Sequence[Any]) -> bool:
    """Whether an answer is drawn at random, so that a second one would be another."""
    options = arguments[-1]
    return isinstance(options, dict) and bool(options.get("do_sample")) and options.get("temperature", 1) > 0


def _until(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0]
    return text


def _task(requests: Sequence[Instance]) -> str:
    return ", ".join(dict.fromkeys(str(request.task_name) for request in requests))

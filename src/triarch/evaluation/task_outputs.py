"""What a model makes of the examples of SeqIO tasks: predictions, and log-likelihoods of their targets.

As in T5X, an example's token ids are read as the task gives them, its ends included; a model that was trained to read
something first (bos, a mode token, [CLS]) reads that before them. Examples of all tasks share batches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from triarch.decoding import Continuation, Conventions, GenerationSettings, Generator, score
from triarch.decoding.prompts import bucket, num_places
from triarch.errors import UserError
from triarch.evaluation.checksums import parameter_checksums
from triarch.evaluation.few_shot.answers import Answers
from triarch.evaluation.few_shot.reading import Frame
from triarch.fields import Size, check_options
from triarch.interchange import LoadedModel


@dataclasses.dataclass(frozen=True)
class TaskRequest:
    """One example of a task, as a model meets it.

    Attributes:
      inputs: token ids, complete; () where the task has targets alone.
      targets: token ids, complete.
      length: the most tokens that are predicted, what ends them included.
    """

    inputs: tuple[int, ...]
    targets: tuple[int, ...]
    length: int


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """How outputs are computed.

    Attributes:
      num_beams: of beam search; 1 takes the likeliest token each time.
      batch_size: rows computed at once.
    """

    num_beams: Size = 1
    batch_size: Size = 32

    def check(self) -> None:
        """Raises UserError, naming the flag, for a value out of range."""
        check_options(self)


class TaskOutputs:
    """Predictions and scores of one model; what `answers` holds already is not computed again."""

    def __init__(
        self,
        model: LoadedModel,
        tokenizer_frame: tuple[Sequence[int], Sequence[int]] | None,
        options: OutputOptions,
        answers: Answers,
        advance: Callable[[int], None] = lambda count: None,
    ):
        """Makes a model ready.

        Args:
          model: of any architecture; an encoder has pseudo-log-likelihoods for scores, and no predictions.
          tokenizer_frame: what its tokenizer puts before and after a text; None if it does not say.
          options: how outputs are computed.
          answers: where they are kept.
          advance: called with the number of examples that have just been done.
        """
        self.model = model
        self.architecture = model.config.architecture
        self._frame = Frame.of(model, tokenizer_frame)
        self._conventions = Conventions.of(model, tokenizer_frame=tokenizer_frame)
        self._options = options
        self._answers = answers
        self._advance = advance

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that each end a prediction."""
        return self._conventions.ends

    def check(self, task: str, requests: Sequence[TaskRequest], predicts: bool, scores: bool) -> None:
        """Makes sure that the model can predict, or score the targets of, a task's examples.

        Raises:
          UserError: an example lacks what is read or scored, or is longer than the model has positions for.
        """
        places = num_places(self.model.config)
        for number, one in enumerate(requests, 1):
            if scores and not one.targets:
                raise UserError(f"task {task}: example {number} has no targets to score")
            if self.architecture == "encoder-decoder" and not one.inputs:
                raise UserError(f"task {task}: example {number} has no inputs, which an encoder-decoder reads")
            if places is None:
                continue
            written = max(len(one.targets), one.length if predicts else 0)
            context = len(self._frame.before) + len(one.inputs)
            # The last token of a decoder's targets is never read.
            read = {
                "encoder-only": context + written + len(self._frame.after),
                "decoder-only": context + written - 1,
                "encoder-decoder": max(context, written),
            }[self.architecture]
            if read > places:
                raise UserError(
                    f"task {task}: example {number} has {len(one.inputs)} tokens of inputs and room for {written} of "
                    f"targets, the model has positions for {places}: cut them with --seqio_lengths=inputs=N,targets=M"
                )

    def predictions(self, requests: Sequence[TaskRequest]) -> list[list[int]]:
        """Returns the predicted tokens of each request without what ended them: those of full `length` did not end."""
        if self.architecture == "encoder-only":
            raise UserError("an encoder makes no predictions")
        keys = [{"inputs": one.inputs, "length": one.length, "num_beams": self._options.num_beams} for one in requests]
        pending = self._pending("prediction", keys)
        prompts = {index: [*self._frame.before, *requests[index].inputs] or [self._frame.prefix] for index in pending}
        generator = Generator(
            self.model, start=self._start, bidirectional_prompt=self._conventions.bidirectional_prompt
        )
        # The likeliest tokens do not depend on how many may follow, so that those of various lengths go together.
        exact = self._options.num_beams > 1 or num_places(self.model.config) is not None

        def group(index: int) -> int:
            return requests[index].length if exact else bucket(requests[index].length)

        pending.sort(key=lambda index: (group(index), len(prompts[index])), reverse=True)
        while pending:
            size = self._options.batch_size
            chosen = [index for index in pending[:size] if group(index) == group(pending[0])]
            pending = pending[len(chosen) :]
            settings = GenerationSettings(
                max_new_tokens=max(requests[index].length for index in chosen),
                num_beams=self._options.num_beams,
                first_token=self._conventions.first_token,
                stop_tokens=tuple((end,) for end in self.ends),
            )
            found = generator.generate([prompts[index] for index in chosen], settings, size)
            for index, tokens in zip(chosen, found, strict=True):
                self._answers.add("prediction", keys[index], tokens[: requests[index].length])
            self._advance(len(chosen))
        return [self._answers.get("prediction", key) for key in keys]

    def scores(self, requests: Sequence[TaskRequest]) -> list[float]:
        """Returns the log-likelihood of each request's targets given its inputs, in nats, over all of its tokens."""
        keys = [{"inputs": one.inputs, "targets": one.targets} for one in requests]
        pending = self._pending("score", keys)
        asked = [self._continuation(requests[index]) for index in pending]
        if asked:
            lengths = [len(one.before) + len(one.context) + len(one.tokens) + len(one.after) for one in asked]

            def done(place: int, found: Any) -> None:
                self._answers.add("score", keys[pending[place]], found.log_likelihood)
                self._advance(1)

            score(
                self.model,
                asked,
                max_length=min(max(lengths), num_places(self.model.config) or max(lengths)),
                start=self._frame.decoder_start,
                bidirectional_context=self._conventions.bidirectional_prompt,
                batch_size=self._options.batch_size,
                done=done,
            )
        return [self._answers.get("score", key) for key in keys]

    def _pending(self, kind: str, keys: Sequence[Any]) -> list[int]:
        """Returns the numbers of the requests, each once, that have no answer yet."""
        missing = {repr(key): index for index, key in enumerate(keys) if self._answers.get(kind, key) is None}
        self._advance(len(keys) - len(missing))
        return sorted(missing.values())

    @property
    def _start(self) -> tuple[int, ...]:
        return self._conventions.decoder_start if self.architecture == "encoder-decoder" else ()

    def _continuation(self, request: TaskRequest) -> Continuation:
        frame = self._frame
        if self.architecture == "encoder-only":
            return Continuation(request.inputs, request.targets, None, frame.before, frame.after)
        if not frame.before and not request.inputs:
            return Continuation([frame.prefix], request.targets)
        return Continuation(request.inputs, request.targets, before=frame.before)


def outputs_identity(model: LoadedModel, tokenizer_frame: tuple[Sequence[int], Sequence[int]] | None) -> dict[str, Any]:
    """Returns what kept outputs depend on besides their requests: the model, and how it reads token ids."""
    conventions = Conventions.of(model, tokenizer_frame=tokenizer_frame)
    return {
        "parameters": parameter_checksums(model),
        "network": repr(model.config),
        "vocabulary": model.known_vocabulary["fingerprint"],
        "reading": dataclasses.asdict(Frame.of(model, tokenizer_frame))
        | {"bidirectional": conventions.bidirectional_prompt, "decoder_start": conventions.decoder_start},
    }

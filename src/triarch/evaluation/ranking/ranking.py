"""Choices ranked by their likelihood, and what that makes of tasks and clusters of tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from triarch.decoding import Conventions
from triarch.decoding.scoring import Continuation, score
from triarch.evaluation.few_shot.evaluation import max_length_of
from triarch.evaluation.few_shot.reading import Frame, Reader
from triarch.evaluation.ranking.questions import Question
from triarch.interchange import LoadedModel
from triarch.means import error_of_mean, standard_error
from triarch.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class Ranked:
    """A question and what a model made of it.

    Attributes:
      question: that was asked.
      log_likelihoods: of the choices, in nats.
      tokens: of each choice, its end included where that was scored.
    """

    question: Question
    log_likelihoods: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def is_right(self) -> bool:
        """Whether the right choice is the likeliest, as T0 (arXiv 2110.08207) decides."""
        return int(np.argmax(self.log_likelihoods)) == self.question.right

    @property
    def is_right_by_token(self) -> bool:
        """Whether it is the likeliest by token, which favours no short choice."""
        return int(np.argmax(np.divide(self.log_likelihoods, self.tokens))) == self.question.right


@dataclasses.dataclass(frozen=True)
class Summary:
    """Accuracy on a task, on a cluster of tasks, or on the mean of clusters.

    Attributes:
      level: "task", "cluster" or "mean of clusters".
      name: of it.
      num_examples: questions.
      accuracy: share whose right choice is the likeliest.
      standard_error: of the accuracy over questions, those of one item counted together, None of one item; of the
        mean, from its clusters' errors.
      accuracy_by_token: by the likelihood of a token.
      chance: what drawing a choice would have.
      majority: what the most frequent answer of each task would have, by its text.
    """

    level: str
    name: str
    num_examples: int
    accuracy: float
    standard_error: float | None
    accuracy_by_token: float
    chance: float
    majority: float


def rank(
    model: LoadedModel,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    *,
    batch_size: int = 32,
    max_length: int | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> list[Ranked]:
    """Scores every choice of every question.

    A model whose training ended its inputs with a token (`Supervised`, any encoder-decoder) reads inputs as they were
    prepared for it, and its choices' ends are scored too; one of running text reads the choice behind the inputs.

    Args:
      model: a decoder or an encoder-decoder, its vocabulary known.
      tokenizer: of that vocabulary.
      questions: to be asked.
      batch_size: rows computed at once.
      max_length: tokens that one side reads at most; None: as many as the model has positions for, or 2048.
      done: called with numbers of choices scored.

    Raises:
      UserError: the vocabulary is unknown; a choice is longer than `max_length`.
    """
    frame = Frame.of(model, getattr(tokenizer, "frame", None))
    reader = Reader(tokenizer, frame, model.config.architecture)
    requests = [_request(reader, question, choice) for question in questions for choice in question.choices]
    scores = score(
        model,
        requests,
        max_length=max_length or max_length_of(model, None),
        start=frame.decoder_start,
        bidirectional_context=Conventions.of(model).bidirectional_prompt,
        batch_size=batch_size,
        done=lambda index, one: done(1),
    )
    ranked, first = [], 0
    for question in questions:
        last = first + len(question.choices)
        likelihoods = tuple(one.log_likelihood for one in scores[first:last])
        ranked.append(Ranked(question, likelihoods, tuple(len(one.tokens) for one in requests[first:last])))
        first = last
    return ranked


def _request(reader: Reader, question: Question, choice: str) -> Continuation:
    frame = reader.frame
    if not frame.after:
        space = "" if question.inputs[-1:].isspace() or not question.inputs else " "
        return reader.pair(question.inputs, space + choice)
    inputs = [*map(int, reader.tokenizer.encode(question.inputs)), *frame.after]
    targets = [*map(int, reader.tokenizer.encode(choice)), *frame.ends[:1]]
    if frame.is_imported:
        return Continuation(reader.around(inputs[: len(inputs) - len(frame.after)]), targets)
    return Continuation(inputs, targets, before=frame.before)


def summarise(ranked: Sequence[Ranked]) -> list[Summary]:
    """Returns accuracies by task, by cluster, and their mean over clusters, which counts each cluster alike."""
    found = [
        _summary(level, name, [one for one in ranked if getattr(one.question, level) == name])
        for level in ("task", "cluster")
        for name in dict.fromkeys(getattr(one.question, level) for one in ranked)
    ]
    clusters = [one for one in found if one.level == "cluster"]
    mean = {
        name: float(np.mean([getattr(one, name) for one in clusters]))
        for name in ("accuracy", "accuracy_by_token", "chance", "majority")
    }
    error = error_of_mean([one.standard_error for one in clusters])
    return [*found, Summary("mean of clusters", "all", len(ranked), standard_error=error, **mean)]


def _summary(level: str, name: str, ranked: Sequence[Ranked]) -> Summary:
    right = np.array([one.is_right for one in ranked], float)
    return Summary(
        level=level,
        name=name,
        num_examples=len(ranked),
        accuracy=float(right.mean()),
        standard_error=standard_error(right, _items(ranked)),
        accuracy_by_token=float(np.mean([one.is_right_by_token for one in ranked])),
        chance=float(np.mean([1 / len(one.question.choices) for one in ranked])),
        majority=_majority([one.question for one in ranked]),
    )


def _majority(questions: Iterable[Question]) -> float:
    answers: dict[str, dict[str, int]] = {}
    for question in questions:
        counts = answers.setdefault(question.task, {})
        text = question.choices[question.right]
        counts[text] = counts.get(text, 0) + 1
    total = sum(sum(counts.values()) for counts in answers.values())
    return sum(max(counts.values()) for counts in answers.values()) / total


def differences(one: Sequence[Ranked], other: Sequence[Ranked]) -> dict[str, tuple[float, float | None]]:
    """Returns, by cluster and for "all", how much more often `other` is right than `one`, and the error of that.

    Paired over questions, which both must have been asked in the same order; "all" is the mean of clusters.
    """
    gains: dict[str, list[float]] = {}
    asked: dict[str, list[Ranked]] = {}
    for before, after in zip(one, other, strict=True):
        assert before.question == after.question
        gains.setdefault(before.question.cluster, []).append(float(after.is_right) - float(before.is_right))
        asked.setdefault(before.question.cluster, []).append(before)
    found: dict[str, tuple[float, float | None]] = {
        name: (float(np.mean(values)), standard_error(values, _items(asked[name]))) for name, values in gains.items()
    }
    means, errors = zip(*found.values(), strict=True)
    found["all"] = (float(np.mean(means)), error_of_mean(errors))
    return found


def _items(ranked: Sequence[Ranked]) -> list[str | int]:
    """Returns what each question is about; one that does not say is about something of its own."""
    return [number if one.question.item is None else one.question.item for number, one in enumerate(ranked)]


def as_row(ranked: Ranked, number: int) -> dict[str, Any]:
    """Returns what a file of answers says of a question."""
    question = ranked.question
    return {
        "number": number,
        "task": question.task,
        "cluster": question.cluster,
        "item": question.item,
        "right": question.right,
        "log_likelihoods": list(ranked.log_likelihoods),
        "is_right": ranked.is_right,
    }

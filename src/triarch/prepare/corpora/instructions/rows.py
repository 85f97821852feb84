"""What a row of a tuning data set says: inputs, targets, and which task, source and kind of prompt they are of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from triarch.errors import nearest
from triarch.prepare.corpora.documents import BadRecordError
from triarch.prepare.corpora.files.records import checked_string
from triarch.tokenizers.chat import ChatTemplate, TemplateError

Row = Mapping[str, Any]

# The fields that hold inputs and targets, by the data sets that have them; the first pair that a row has counts.
_PAIRS = (
    ("inputs_pretokenized", "targets_pretokenized"),  # P3, whose inputs and targets are token ids.
    ("inputs", "targets"),  # FLAN 2022; natural instructions row by row.
    ("source", "target"),
    ("input", "target"),
    ("input", "output"),  # An instance of natural instructions.
    ("prompt", "completion"),
    ("instruction", "output"),
)
_CONVERSATIONS = ("messages", "conversations", "conversation")
_TASK = ("_task_name", "task_name", "task", "template")
_SOURCE = ("_task_source", "task_source")
_STYLE = ("_template_type", "template_type")
_ROLES = ("system", "developer", "user", "assistant", "tool")
# ShareGPT's names.
_OTHER_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant"}


@dataclasses.dataclass(frozen=True)
class RowLabels:
    """What a row calls itself; None where it does not say.

    Attributes:
      task: its task.
      source: the collection of its task, "P3" for example.
      style: kind of prompt: zs_opt, zs_noopt, fs_opt or fs_noopt, zero- or few-shot, with or without options.
    """

    task: str | None
    source: str | None
    style: str | None


@dataclasses.dataclass(frozen=True)
class Example:
    """Inputs and targets.

    Attributes:
      inputs: what is read.
      targets: what is to be written, never empty.
      rendered: whether a chat template made them, which has put special tokens and ends into them.
    """

    inputs: str
    targets: str
    rendered: bool = False


def labels_of(row: Row) -> RowLabels:
    """Returns what a row calls itself."""

    def first(names: Sequence[str]) -> str | None:
        return next((row[name] for name in names if isinstance(row.get(name), str) and row[name]), None)

    return RowLabels(first(_TASK), first(_SOURCE), first(_STYLE))


def is_conversation(row: Row) -> bool:
    """Returns whether a row holds messages."""
    return any(isinstance(row.get(name), list) for name in _CONVERSATIONS)


def examples_of(row: Row, place: str, template: ChatTemplate | None) -> Iterator[Example]:
    """Yields the examples of a row: one, or of a conversation one for each message of the assistant.

    Raises:
      BadRecordError: the row has no inputs or targets, or none that are texts; a conversation's messages are none, a
        role is unknown, the template fails, or there is none.
    """
    if is_conversation(row):
        yield from _conversation(row, place, template)
        return
    pair = next(((one, other) for one, other in _PAIRS if one in row or other in row), None)
    if pair is None:
        known = "; ".join(f"{one}, {other}" for one, other in _PAIRS)
        raise BadRecordError(
            "unknown fields", place, f"has {_listed(row)}: expected a pair of fields ({known}) or messages"
        )
    pair = next(((one, other) for one, other in _PAIRS if one in row and other in row), pair)
    inputs, targets = (_text(row, name, place) for name in pair)
    if pair[0].endswith("_pretokenized"):
        # P3's cached texts begin with a space, which its own training takes away.
        inputs, targets = inputs.strip(), targets.strip()
    if pair == ("instruction", "output") and isinstance(row.get("input"), str) and row["input"]:
        inputs = f"{inputs}\n\n{row['input']}"
    if definition := row.get("definition") or row.get("Definition"):
        inputs = _natural_instruction(definition, inputs, place)
    if not targets.strip():
        raise BadRecordError("no targets", place, f"field {pair[1]!r} is empty: a row to tune on needs targets")
    yield Example(inputs, targets)


def _natural_instruction(definition: Any, inputs: str, place: str) -> str:
    """Returns the prompt in which Tk-Instruct (arXiv 2204.07705) asks without examples."""
    if isinstance(definition, list):
        definition = definition[0] if definition else ""
    if not isinstance(definition, str):
        raise BadRecordError("not a string", place, f"field 'definition' is {type(definition).__name__}")

    def ended(text: str) -> str:
        text = text.strip()
        return text if text[-1:] in tuple(".!?:;,") and text else f"{text}."

    return f"Definition: {ended(definition)}\n\nNow complete the following example -\nInput: {ended(inputs)}\nOutput: "


def _text(row: Row, name: str, place: str) -> str:
    if name not in row:
        raise BadRecordError("field missing", place, f"no field {name!r}{nearest(name, list(row))}")
    value = row[name]
    # Natural instructions have several right answers; the first is trained on, as in Tk-Instruct.
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        value = value[0]
    return checked_string(value, name, place)


def messages_of(row: Row, place: str) -> list[dict[str, Any]]:
    """Returns the messages of a row that is a conversation, their roles by the names that templates know.

    Raises:
      BadRecordError: one is no message, or its role is unknown.
    """
    name = _conversation_field(row)
    return [_message(message, f"{name}[{number}]", place) for number, message in enumerate(row[name])]


def _conversation_field(row: Row) -> str:
    return next(name for name in _CONVERSATIONS if isinstance(row.get(name), list))


def _conversation(row: Row, place: str, template: ChatTemplate | None) -> Iterator[Example]:
    name, messages = _conversation_field(row), messages_of(row, place)
    if not any(message["role"] == "assistant" for message in messages):
        raise BadRecordError("no targets", place, f"{name} hold no message of the assistant, which would be learned")
    if template is None:
        raise BadRecordError(
            "no chat template",
            place,
            "messages are written by the chat template of a tokenizer, and this vocabulary has none: take a model's "
            "folder with --vocabulary=FOLDER, or give one with --chat_template=FILE",
        )
    try:
        answers = template.answers(messages)
    except TemplateError as error:
        raise BadRecordError("template failed", place, f"{template.name} fails on it: {error}") from None
    found = [(before, own) for before, own in answers if own.strip()]
    if not found:
        raise BadRecordError("no targets", place, f"{template.name} writes nothing of the assistant's messages")
    for before, own in found:
        yield Example(before, own, rendered=True)


def _message(message: Any, where: str, place: str) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise BadRecordError("no message", place, f"{where} is {type(message).__name__}, expected a role and a content")
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    known = role if role in _ROLES else _OTHER_ROLES.get(role) if isinstance(role, str) else None
    if known is None:
        hint = nearest(str(role), _ROLES)
        raise BadRecordError("unknown role", place, f"{where}: unknown role {role!r}{hint}")
    if content is None and message.get("tool_calls"):
        content = ""
    if not isinstance(content, str | list):
        kind = "null" if content is None else type(content).__name__
        raise BadRecordError("not a string", place, f"{where}: its content is {kind}, expected a string")
    if isinstance(content, str):
        checked_string(content, f"{where}.content", place)
    others = {key: value for key, value in message.items() if key not in ("from", "value") and value is not None}
    return {**others, "role": known, "content": content}


def _listed(row: Row) -> str:
    names = ", ".join(map(str, row)) if row else "no field"
    return names if len(names) < 200 else f"{names[:200]}..."

"""Chat templates: a conversation as the text that a model was tuned on.

A template is Jinja, rendered as transformers renders it (`apply_chat_template`): in a sandbox that keeps it from
Python's inner parts, and with bounds on what it may make.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

from triarch.errors import UserError

# Of what a template makes; the longest contexts of models have some millions.
_MOST_CHARACTERS = 2**24
_MOST_REPEATS = 2**16
# What templates are told that today is, lest a store depend on the day it is made: what Llama 3's own falls back to.
_DAY = datetime.datetime(2024, 7, 26)
Message = Mapping[str, Any]
Span = tuple[int, int]


class TemplateError(Exception):
    """A template that cannot be rendered, in one line."""


class _Marked(jinja2.ext.Extension):
    """The tag {% generation %} ... {% endgeneration %}: what is between is the assistant's."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        # Where it will stand is known only when all is rendered.
        marks: _Marks = self.environment.globals["_marks"]  # type: ignore[assignment]
        return marks.around(caller())


class _Marks:
    """Marks around texts, which no text holds: characters of a private plane, one pair of them."""

    begin, end = "\U0010fff0\U0010fff1", "\U0010fff1\U0010fff0"

    def around(self, text: str) -> str:
        return f"{self.begin}{text}{self.end}"

    def removed(self, text: str) -> tuple[str, list[Span]]:
        """Returns the text without marks, and what was between them."""
        first, *marked = text.split(self.begin)
        made, spans = first, []
        for part in marked:
            inside, _, after = part.partition(self.end)
            spans.append((len(made), len(made) + len(inside)))
            made += inside + after
        return made, spans


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "**"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sizes = [value for value in (left, right) if isinstance(value, int)]
        if operator == "**" or (len(sizes) < 2 and any(size > _MOST_REPEATS for size in sizes)):
            raise jinja2.sandbox.SecurityError(f"{operator} of values that large")
        return super().call_binop(context, operator, left, right)


def _raise(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def sandbox() -> jinja2.Environment:
    """Returns an environment for templates that come with data, with what transformers offers chat templates."""
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Marked, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _DAY.strftime
    environment.globals["_marks"] = _Marks()
    return environment


def compiled(source: str, name: str, environment: jinja2.Environment | None = None) -> jinja2.Template:
    """Returns a template; `name` is what messages call it.

    Raises:
      UserError: it is no Jinja.
    """
    try:
        return (environment or sandbox()).from_string(source)
    except (jinja2.TemplateError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        raise UserError(f"{name}{f' line {line}' if line else ''}: not a Jinja template: {_one_line(error)}") from None


def rendered(template: jinja2.Template, values: Mapping[str, Any]) -> str:
    """Returns the text that a template makes of values.

    Raises:
      TemplateError: it cannot, says that it will not, or makes too much.
    """
    parts, count = [], 0
    try:
        for part in template.generate(**values):
            parts.append(part)
            count += len(part)
            if count > _MOST_CHARACTERS:
                raise TemplateError(f"makes more than {_MOST_CHARACTERS:,} characters")
    except TemplateError:
        raise
    except Exception as error:  # Whatever the template's own expressions raise.
        raise TemplateError(_one_line(error)) from None
    return "".join(parts)


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
    """How a model's conversations are written.

    Attributes:
      source: the template.
      name: the file it comes from, for messages.
      special: texts of the special tokens by their fields, as "bos_token".
      ends: texts of tokens that may end a message.
    """

    source: str
    name: str
    special: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ends: frozenset[str] = frozenset()

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = False,
        today: datetime.datetime | None = None,
    ) -> tuple[str, list[Span]]:
        """Returns the text of a conversation, and the spans that the template marks as the assistant's, if it does.

        Args:
          messages: the conversation.
          add_generation_prompt: whether to ask for the assistant's next message.
          today: what the template is told that today is; None for one day, whenever that is.

        Raises:
          TemplateError: the template cannot.
        """
        values = {
            **self.special,
            "messages": messages,
            "tools": None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **({} if today is None else {"strftime_now": today.strftime}),
        }
        return _Marks().removed(rendered(self._template, values))

    @property
    def marks(self) -> bool:
        """Whether the template says itself which text is the assistant's ({% generation %})."""
        return "generation" in self.source and "endgeneration" in self.source

    def answers(self, messages: Sequence[Message]) -> list[tuple[str, str]]:
        """Returns, of each message of the assistant, the text before it and its own.

        A template that marks the assistant's text decides what that is. Of others it is what comes after the prompt
        that asks for an answer, up to the token that ends the message.

        Raises:
          TemplateError: the template cannot render this, or what it writes of a message depends on those after it.
        """
        if any(mark in str(messages) for mark in (_Marks.begin, _Marks.end)):
            raise TemplateError("a message holds the private characters U+10FFF0 and U+10FFF1 side by side")
        if self.marks:
            text, spans = self.render(messages)
            return [(text[:start], text[start:end]) for start, end in spans]
        found = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before, _ = self.render(messages[:number], add_generation_prompt=True)
            upto, _ = self.render(messages[: number + 1])
            if not upto.startswith(before):
                raise TemplateError(
                    f"the text before messages[{number}] is another with it than without, so that its own cannot be "
                    "told: mark it with {% generation %} in a template of your own"
                )
            found.append((before, self._without_space(upto[len(before) :])))
        return found

    def _without_space(self, text: str) -> str:
        """Returns a message without the space behind the token that ends it."""
        stripped = text.rstrip()
        return stripped if stripped.endswith(tuple(self.ends)) else text

    @functools.cached_property
    def _template(self) -> jinja2.Template:
        return compiled(self.source, self.name)

    def check(self) -> None:
        """Raises UserError unless the template is Jinja."""
        _ = self._template

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def _one_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

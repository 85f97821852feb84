"""Conversations as prompts: what a chat template makes of messages, and what ends an answer."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from triarch.errors import UserError
from triarch.tokenizers import Tokenizer
from triarch.tokenizers.base import encode_rendered
from triarch.tokenizers.chat import ChatTemplate, Message, TemplateError


@dataclasses.dataclass(frozen=True)
class Chat:
    """How a model reads conversations.

    Attributes:
      tokenizer: of the model's vocabulary.
      template: in which it reads them.
    """

    tokenizer: Tokenizer
    template: ChatTemplate

    @classmethod
    def of(cls, tokenizer: Tokenizer, name: str) -> Chat:
        """Returns the chat of a tokenizer that has a template; `name` is what messages call the model.

        Raises:
          UserError: it has none, or one that is no Jinja.
        """
        found = own_template(tokenizer)
        if found is None:
            raise UserError(f"{name}: its tokenizer has no chat template")
        return cls(tokenizer, found)

    def prompt(self, messages: Sequence[Message], place: str) -> list[int]:
        """Returns the ids that ask for the assistant's next message, as `apply_chat_template` of transformers does.

        Nothing is put around them: what a text begins with, the template writes. It is told today's date.

        Args:
          messages: the conversation so far, the last one not the assistant's.
          place: what messages of errors call the conversation.

        Raises:
          UserError: there is nothing to answer, or the template fails.
        """
        if not messages:
            raise UserError(f"{place}: holds no message")
        if messages[-1]["role"] == "assistant":
            raise UserError(f"{place}: ends with a message of the assistant: expected one that is to be answered")
        try:
            text, _ = self.template.render(messages, add_generation_prompt=True, today=datetime.datetime.now())
        except TemplateError as error:
            raise UserError(f"{place}: {self.template.name} fails on it: {error}") from None
        return np.concatenate(encode_rendered(self.tokenizer, text, "")).tolist()

    @functools.cached_property
    def end(self) -> str:
        """What the template writes behind a message of the assistant; nothing where it does not show."""
        said = "yes"
        try:
            ((_, own),) = self.template.answers(
                [{"role": "user", "content": "well?"}, {"role": "assistant", "content": said}]
            )
        except (TemplateError, ValueError):
            return ""
        return own.partition(said)[2].strip()

    @functools.cached_property
    def end_token(self) -> int | None:
        """The id of `end` where that is a special token; None where it is text, or nothing."""
        if self.end not in self.template.ends:
            return None
        names: dict[int, str] = _base(self.tokenizer).names
        return next((index for index, name in names.items() if name == self.end), None)

    def cuts(self, stops: Sequence[str], ignore_eos: bool) -> tuple[str, ...]:
        """Returns the texts that end an answer: those asked for, and `end` where the vocabulary has no token for it."""
        is_text = self.end_token is None and self.end and not ignore_eos
        return (*stops, self.end) if is_text else tuple(stops)

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end an answer, beside those that the model has already."""
        return () if self.end_token is None else (self.end_token,)


def own_template(tokenizer: Tokenizer | None) -> ChatTemplate | None:
    """Returns the chat template that comes with a tokenizer; None where none does."""
    base = _base(tokenizer)
    return base.chat_template() if hasattr(base, "chat_template") else None


def given_template(source: str, name: str, tokenizer: Tokenizer | None) -> ChatTemplate:
    """Returns a template in place of the tokenizer's own, which knows its special tokens.

    Args:
      source: Jinja.
      name: what messages of errors call it.
      tokenizer: None where it is not known yet.
    """
    own = own_template(tokenizer)
    if own is not None:
        return dataclasses.replace(own, source=source, name=name)
    base = _base(tokenizer)
    return ChatTemplate(source, name, base.special_texts() if hasattr(base, "special_texts") else {})


def _base(tokenizer: Any) -> Any:
    return getattr(tokenizer, "base", tokenizer)

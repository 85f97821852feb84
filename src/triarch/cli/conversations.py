"""Conversations of `triarch generate --chat`: from files, flags, or typed."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch import schema
from triarch.cli.prompts import read_lines, read_prompts
from triarch.cli.tuning.instructions import read_template
from triarch.decoding.prompt_texts import check_text
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.decoding.chat import Chat
    from triarch.interchange import LoadedModel
    from triarch.tokenizers import Tokenizer

_FLAGS = ("system", "chat_template")
_SIGN = "> "


@dataclasses.dataclass(frozen=True)
class Conversation:
    """Messages that are to be answered.

    Attributes:
      messages: of roles and contents, oldest first.
      place: what errors call it.
    """

    messages: Sequence[dict[str, Any]]
    place: str

    @property
    def last(self) -> str:
        """The message to be answered, as text."""
        return str(self.messages[-1]["content"]) if self.messages else ""


def check(args: argparse.Namespace) -> None:
    """Raises UserError for flags that belong to --chat, or that do not go with it."""
    for name in _FLAGS:
        if getattr(args, name) is not None and not args.chat:
            raise UserError(f"--{name} belongs to --chat")
    if args.chat and args.mode is not None:
        raise UserError("--mode is for prompts of text: with --chat the template writes what comes before a message")
    if args.system is not None:
        check_text(args.system, "--system")


def chat_of(args: argparse.Namespace, model: LoadedModel, tokenizer: Tokenizer) -> Chat:
    """Returns how the model reads conversations.

    Raises:
      UserError: there is no template, it is no Jinja, or the model is an encoder.
    """
    from triarch.decoding.chat import Chat

    if model.config.architecture == "encoder-only":
        raise UserError(f"{args.model}: an encoder answers no conversation: leave out --chat")
    if args.chat_template is not None:
        chat = Chat(tokenizer, read_template(args.chat_template, tokenizer))
    else:
        try:
            chat = Chat.of(tokenizer, str(args.model))
        except UserError as error:
            raise UserError(f"{error}: give one with --chat_template=FILE, or leave out --chat") from None
    chat.template.check()
    return chat


def read(args: argparse.Namespace) -> list[Conversation]:
    """Returns the conversations of --prompt or --prompts_file.

    Raises:
      UserError: there is none, the file cannot be read, or a line is none; names it.
    """
    file: Path | None = args.prompts_file
    if file is None or args.prompt or file.suffix != ".jsonl":
        prompts = read_prompts(args.prompt, file)
        name = "--prompt" if args.prompt else str(file)
        return [_begun(args, text, f"{name} number {number}") for number, text in enumerate(prompts, 1)]
    lines = enumerate(read_lines(file), 1)
    found = [_of_line(args, line, f"{file}, line {number}") for number, line in lines if line.strip()]
    if not found:
        raise UserError(f"{file}: holds no conversation")
    return found


def typed(
    args: argparse.Namespace, answer: Callable[[Sequence[Conversation]], list[dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """Yields the answers of one conversation, of which each line of standard input is the user's next message."""
    messages = _system(args)
    has_terminal = sys.stdin.isatty()
    lines = iter(sys.stdin.readline, "")
    count = 0
    while True:
        if has_terminal:
            print(_SIGN, end="", file=sys.stderr, flush=True)
        try:
            text = next(lines, None)
        except UnicodeDecodeError:
            raise UserError("standard input: is not UTF-8 text") from None
        if text is None:
            break
        if not text.strip():
            continue
        count += 1
        text = text.rstrip("\r\n")
        check_text(text, f"message {count}")
        messages = [*messages, {"role": "user", "content": text}]
        (found,) = answer([Conversation(messages, f"message {count}")])
        messages = [*messages, {"role": "assistant", "content": found["text"].strip()}]
        yield found
    if not count:
        raise UserError("no message: give --prompt=TEXT or --prompts_file=FILE, or write one to standard input")


def _of_line(args: argparse.Namespace, line: str, place: str) -> Conversation:
    from triarch.prepare.corpora.instructions.rows import is_conversation, messages_of

    row = schema.parse(line, place, finite=False)
    if isinstance(row, dict) and is_conversation(row):
        messages = messages_of(row, place)
        has_system = bool(messages) and messages[0]["role"] in ("system", "developer")
        return Conversation([*([] if has_system else _system(args)), *messages], place)
    prompt = row.get("prompt") if isinstance(row, dict) else None
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f'{place}: expected an object with a list of "messages", or with a text under "prompt"')
    check_text(prompt, place)
    return _begun(args, prompt, place)


def _begun(args: argparse.Namespace, text: str, place: str) -> Conversation:
    return Conversation([*_system(args), {"role": "user", "content": text}], place)


def _system(args: argparse.Namespace) -> list[dict[str, Any]]:
    return [] if args.system is None else [{"role": "system", "content": args.system}]

"""`triarch generate`: text out of a run, an export or an imported model."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli import steps
from triarch.cli.prompts import read_prompts
from triarch.cli.views.batch_view import legible
from triarch.cli.views.text_stream import TextStream
from triarch.decoding.prompt_texts import check_stops, decode, encode, unfinished
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.cli.conversations import Conversation
    from triarch.decoding import GenerationSettings
    from triarch.decoding.chat import Chat
    from triarch.interchange import LoadedModel
    from triarch.tokenizers import Tokenizer

HELP = """Writes text with a run, an export or an imported model: a decoder continues a prompt, an encoder-decoder reads
it in its encoder and answers, an encoder fills the masks of a prompt ("[MASK]"), or continues one mask after another.

Prompts come from --prompt, from --prompts_file, or from standard input, one a line. One prompt alone is answered as the
tokens come, several in one batch. What a model's training puts around its inputs is put around a prompt: the decoder's
first token, the end of an encoder's input, UL2's mode token. Sentinels are written <extra_id_0>, <extra_id_1>, ...

With --chat prompts are conversations, written by the chat template of the model's tokenizer, and an answer ends where
the template ends a message. Each --prompt, or line of a file, is a user's message; a line of a .jsonl file may hold a
whole conversation ({"messages": [{"role": "user", "content": TEXT}, ...]}). Without either, each line of standard input
is the next message of one conversation."""
EXAMPLE = """  triarch generate --model=runs/decllm --prompt='def main(' --max_new_tokens=64
  triarch generate --model=runs/redllm --prompts_file=prompts.jsonl --num_beams=4 --json=answers.json
  triarch generate --model=exports/smollm2 --chat --system='Be brief.'
  triarch generate --model=exports/smollm2 --chat --prompts_file=chats.jsonl --json=answers.json
  triarch generate --model=exports/ettin --prompt='The capital of France is [MASK].'
  echo 'Once upon a time' | triarch generate --model=exports/llama --temperature=0.8 --top_p=0.95 --seed=1"""

_CHUNK = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch generate`."""
    add = parser.add_argument
    add("--model", required=True, type=Path, metavar="PATH", help="a run or an export")
    add("--prompt", action="append", default=[], metavar="TEXT", help="what to continue; repeatable")
    add("--prompts_file", type=Path, metavar="FILE", help='a prompt a line; .jsonl: {"prompt": TEXT} a line')
    add("--max_new_tokens", type=int, default=128, help="tokens to write at most (default: %(default)s)")
    add("--temperature", type=float, default=0.0, help="0: the likeliest token (default); 1: as likely as modelled")
    add("--top_k", type=int, help="sample from this many likeliest tokens")
    add("--top_p", type=float, help="sample from the fewest tokens of this probability together")
    add("--min_p", type=float, help="sample from tokens at least this share as likely as the likeliest")
    add("--num_beams", type=int, default=1, help="number of beams of beam search (default: %(default)s, none)")
    add("--length_penalty", type=float, default=1.0, help="a beam of n tokens scores log-probability / n^this (1)")
    add("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")
    add("--ignore_eos", action="store_true", help="continue when the model ends its text")
    add("--seed", type=int, default=0, help="of sampling (default: %(default)s)")
    add("--mode", help="UL2's mode token before prompts: R, S or X (default: that of the model's prefix LM)")
    add("--batch_size", type=int, default=8, help="prompts computed at once (default: %(default)s)")
    add("--chat", action="store_true", help="prompts are conversations, for a model that was tuned on them")
    add("--system", metavar="TEXT", help="with --chat: the system's message, first in conversations without one")
    add(
        "--chat_template", type=Path, metavar="FILE", help="with --chat: Jinja in place of the tokenizer's own template"
    )
    add("--step", type=steps.one_step, metavar="STEP", help=steps.HELP)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes what the model makes of the prompts to standard output.

    Raises:
      UserError: the model is missing or damaged or its vocabulary unknown, a prompt is empty or too long, or a flag is
        out of range.
    """
    if args.batch_size < 1:
        raise UserError(f"--batch_size={args.batch_size}: expected at least 1")
    from triarch.cli import conversations

    conversations.check(args)
    typed = args.chat and not args.prompt and args.prompts_file is None
    begun = conversations.read(args) if args.chat and not typed else []
    texts = [] if args.chat else read_prompts(args.prompt, args.prompts_file)
    _settings(args).validate()
    from triarch.loading import load, tokenizer_of

    model = load(args.model, step=args.step)
    tokenizer = tokenizer_of(model)
    chat = conversations.chat_of(args, model, tokenizer) if args.chat else None
    printer = _Printer(args, model, tokenizer, chat)
    if typed:
        answers = list(conversations.typed(args, printer.converse))
    else:
        answers = printer.converse(begun) if args.chat else printer.answer(texts)
    settings = dataclasses.asdict(printer.writer.settings) | {"stop": args.stop}
    return {"model": str(args.model), "settings": settings, "completions": answers}


def _settings(args: argparse.Namespace) -> GenerationSettings:
    """Returns what the flags ask for."""
    from triarch.decoding import GenerationSettings

    return GenerationSettings(
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
        num_beams=args.num_beams,
        length_penalty=args.length_penalty,
        seed=args.seed,
    )


class _Printer:
    """Generates with a model and prints as it goes."""

    def __init__(self, args: argparse.Namespace, model: LoadedModel, tokenizer: Tokenizer, chat: Chat | None = None):
        from triarch.decoding import Writer

        check_stops(args.stop, tokenizer)
        self.args, self.chat = args, chat
        self.stops = args.stop if chat is None else chat.cuts(args.stop, args.ignore_eos)
        self.writer = Writer.of(
            model,
            tokenizer,
            _settings(args),
            stops=self.stops,
            ignore_eos=args.ignore_eos,
            mode=args.mode,
            more_ends=() if chat is None else chat.ends,
        )
        self.decode = functools.partial(decode, tokenizer=tokenizer, special=self.writer.special)
        self.probes = unfinished(tokenizer)

    def answer(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Fills the masks of prompts, or continues or answers them: one as its tokens come, several by batches."""
        prompts = [self.writer.encode(text) for text in texts]
        if self.writer.fills(prompts):
            filled = self.writer.write(prompts, self.args.batch_size)
            return [self._filled(*one) for one in zip(texts, prompts, filled, strict=True)]
        return self._written(texts, prompts)

    def converse(self, conversations: Sequence[Conversation]) -> list[dict[str, Any]]:
        """Answers conversations: one as its tokens come, several by batches."""
        assert self.chat is not None
        prompts = [self.chat.prompt(one.messages, one.place) for one in conversations]
        answers = self._written([one.last for one in conversations], prompts)
        return [
            {"messages": list(one.messages), **{name: value for name, value in answer.items() if name != "prompt"}}
            for one, answer in zip(conversations, answers, strict=True)
        ]

    def _written(self, texts: Sequence[str], prompts: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
        self.writer.check(prompts)  # Before the first answer is printed.
        has_decoder = self.writer.model.config.architecture != "encoder-only"
        if len(texts) == 1 and self.args.num_beams == 1 and has_decoder:
            return [self._streamed(texts[0], (piece for (piece,) in self.writer.stream(prompts, _CHUNK)))]
        return self._in_batches(texts, prompts)

    def _in_batches(self, texts: Sequence[str], prompts: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
        answers, size = [], self.args.batch_size
        for first in range(0, len(texts), size):
            chosen = slice(first, first + size)
            written = self.writer.write(prompts[chosen], size, first)
            for text, tokens in zip(texts[chosen], written, strict=True):
                if len(texts) > 1:
                    print(f"==> {_printable(text)}")
                answers.append(self._streamed(text, [tokens]))
        return answers

    def _streamed(self, text: str, pieces: Iterable[list[int]]) -> dict[str, Any]:
        """Prints an answer as its tokens come, and returns it."""
        writer = self.writer
        continues = writer.model.config.architecture == "decoder-only" and self.chat is None
        context = encode(text, writer.tokenizer, writer.special).tolist() if continues else []
        stream = TextStream(self.decode, context, self.stops, self.probes)
        count = 0
        for piece in pieces:
            count += len(piece)
            print(_printable(stream.push(piece)), end="", flush=True)
            if stream.stopped:
                break
        print(_printable(stream.end()))
        ended = stream.stopped or count < self.args.max_new_tokens
        reason = "stop" if ended else "length"
        return {"prompt": text, "text": stream.text, "tokens": stream.tokens, "finish_reason": reason}

    def _filled(self, text: str, prompt: Sequence[int], filled: Sequence[int]) -> dict[str, Any]:
        chosen = [token for token, old in zip(filled, prompt, strict=True) if old == self.writer.special.mask]
        whole = self.decode(filled)
        print(_printable(whole))
        return {"prompt": text, "text": whole, "tokens": chosen, "words": [self.decode([token]) for token in chosen]}


def _printable(text: str) -> str:
    """Returns a text with signs in place of what would steer a terminal: \u240d for a carriage return."""
    kept = "\n\t"
    return "".join(
        letter if letter in kept or unicodedata.category(letter) != "Cc" else "\ufffd" for letter in legible(text)
    )

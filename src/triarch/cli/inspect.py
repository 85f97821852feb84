"""`triarch inspect`: what a token store holds."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rich.console
import rich.text

from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.data.store import TokenStore
    from triarch.tasks.tokenizers import Tokenizer

HELP = "show what a token store holds: counts, vocabulary, a few windows as text"
EXAMPLE = "triarch inspect stores/code --split=validation --examples=2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch inspect`."""
    add = parser.add_argument
    add("store", type=Path, help="folder of the store")
    add("--split", help="split of the windows shown (default: the first)")
    add("--examples", type=int, default=2, help="windows to show (default: %(default)s)")
    add("--first", type=int, default=0, help="index of the first one shown (default: %(default)s)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prints the store's manifest and some of its windows, decoded.

    Raises:
      UserError: there is no whole store, no such split or example.
    """
    from triarch.cli.store_summary import summary
    from triarch.data.store import TokenStore
    from triarch.tasks.tokenizers import load_tokenizer

    store = TokenStore.open(args.store)
    tokenizer = load_tokenizer(store)
    console = rich.console.Console(highlight=False)
    print(*summary(store), sep="\n")
    name = args.split or next(iter(store.manifest.splits))
    examples = _examples(store, name, args.first, args.examples)
    windows = []
    for index, tokens in examples:
        text = _decoded(tokenizer, tokens)
        num_bytes = int(store.token_bytes[tokens].sum())
        console.rule(f"{name} {index}: {len(tokens)} tokens, {num_bytes} bytes")
        console.print(text, soft_wrap=True)
        windows.append({"split": name, "index": index, "tokens": tokens.tolist(), "text": text.plain})
    return {"store": str(store.path), "manifest": dataclasses.asdict(store.manifest), "examples": windows}


def _examples(store: TokenStore, name: str, first: int, count: int) -> list[tuple[int, np.ndarray]]:
    split = store.split(name)
    if count < 0:
        raise UserError(f"--examples={count}: expected 0 or more")
    if not 0 <= first < len(split):
        raise UserError(f"--first={first}: split {name!r} holds examples 0 to {len(split) - 1:,}")
    return [(index, split[index]["tokens"]) for index in range(first, min(first + count, len(split)))]


def _decoded(tokenizer: Tokenizer, tokens: np.ndarray) -> rich.text.Text:
    """Returns the window's text, with a mark where a document ends."""
    ends = np.flatnonzero(tokens == tokenizer.info.special["eos"])
    text = rich.text.Text()
    for number, part in enumerate(np.split(tokens, ends)):
        if number > 0:
            text.append("[end of document]", style="reverse")
            part = part[1:]
        text.append(tokenizer.decode(part))
    return text

"""Rows of a batch as text: what a model reads and what it is to predict, in colour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import rich.text

if TYPE_CHECKING:
    from triarch.objectives import SpecialTokens
    from triarch.tokenizers import Tokenizer

# Packed documents by turns.
_DOCUMENTS = ("", "cyan", "magenta", "yellow")
_SCORED, _UNSCORED, _SPECIAL, _BOTH_WAYS = "bold green", "dim", "reverse", "underline"


def legend() -> rich.text.Text:
    """Returns the line that explains the colours."""
    documents = [(f"document {number}", document_style(number)) for number in range(1, len(_DOCUMENTS) + 1)]
    return rich.text.Text(", ").join(
        [
            *(rich.text.Text(*document) for document in documents),
            rich.text.Text("seen from both sides", _BOTH_WAYS),
            rich.text.Text("scored", _SCORED),
            rich.text.Text("not scored", _UNSCORED),
            rich.text.Text("<special>", _SPECIAL),
        ]
    )


def document_style(number: int) -> str:
    """Returns the colour of a packed document, counted from 1 on."""
    return _DOCUMENTS[(number - 1) % len(_DOCUMENTS)]


def view(row: Mapping[str, np.ndarray], tokenizer: Tokenizer, special: SpecialTokens) -> list[rich.text.Text]:
    """Returns a paragraph for what each side reads, and one for what is predicted.

    Args:
      row: features of one example.
      tokenizer: of the store.
      special: of the store's vocabulary.
    """
    paragraphs = []
    names = special_names(special)
    for side in ("encoder", "decoder"):
        if f"{side}_input_tokens" not in row:
            continue
        inputs = row[f"{side}_input_tokens"]
        segments = row.get(f"{side}_segment_ids", np.ones_like(inputs))
        styles = [document_style(segment) for segment in segments]
        both_ways = row.get("decoder_causal_attention") if side == "decoder" else None
        if both_ways is not None:
            styles = [f"{style} {_BOTH_WAYS}" if seen else style for style, seen in zip(styles, both_ways, strict=True)]
        there = _up_to_last((segments > 0) & (inputs != special.pad))
        paragraphs.append(_paragraph(f"{side} reads", inputs, styles, there, tokenizer, names))
        if f"{side}_target_tokens" in row:
            targets, weights = row[f"{side}_target_tokens"], row[f"{side}_loss_weights"]
            styles = [_SCORED if weight > 0 else _UNSCORED for weight in weights]
            there = _up_to_last((weights > 0) | (targets != special.pad))
            paragraphs.append(_paragraph(f"{side} predicts", targets, styles, there, tokenizer, names))
    return paragraphs


def legible(text: str) -> str:
    """Returns a text with a sign for each carriage return, which rich leaves out: nobody would see that it is there."""
    return text.replace("\r", "\u240d")


def special_names(special: SpecialTokens) -> dict[int, str]:
    """Returns what to call each special token."""
    names = {special.pad: "<pad>", special.bos: "<s>", special.eos: "<end>"}
    names |= {index: f"<{number}>" for number, index in enumerate(special.sentinels)}
    names |= {index: f"<{mode}>" for mode, index in special.modes.items()}
    return names if special.mask is None else names | {special.mask: "<mask>"}


def _up_to_last(there: np.ndarray) -> int:
    return int(np.max(np.flatnonzero(there), initial=-1)) + 1


def _paragraph(
    title: str, tokens: np.ndarray, styles: list[str], there: int, tokenizer: Tokenizer, names: Mapping[int, str]
) -> rich.text.Text:
    text = rich.text.Text(f"{title} {there} tokens", style="")
    text.append(f" and {len(tokens) - there} of padding: " if there < len(tokens) else ": ")
    for style, run in _runs(tokens[:there].tolist(), styles, names):
        if run[0] in names:
            text.append(names[run[0]], style=f"{_SPECIAL} {style}")
        else:
            text.append(legible(tokenizer.decode(run)), style=style)
    return text


def _runs(tokens: list[int], styles: list[str], names: Mapping[int, str]) -> Iterator[tuple[str, list[int]]]:
    """Yields the longest runs of ordinary tokens of one style, and every special token by itself."""
    run: list[int] = []
    for place, token in enumerate(tokens):
        if run and (token in names or styles[place] != styles[place - 1]):
            yield styles[place - 1], run
            run = []
        if token in names:
            yield styles[place], [token]
        else:
            run.append(token)
    if run:
        yield styles[len(tokens) - 1], run

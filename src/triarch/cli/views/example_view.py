"""An example of a store as text: its documents in colours by turns, with marks where texts end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import rich.text

from triarch.cli.views.batch_view import document_style, legible

if TYPE_CHECKING:
    from triarch.tokenizers import Tokenizer

_END = "reverse"


def text_tokens(example: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the example's tokens without padding; of each pair the inputs and then the targets."""
    return np.concatenate([tokens for _, _, tokens in _texts(example)])


def view(example: Mapping[str, np.ndarray], tokenizer: Tokenizer) -> rich.text.Text:
    """Returns the example's text; targets of pairs are bold."""
    shown = rich.text.Text()
    end = tokenizer.info.special["eos"]
    for document, kind, tokens in _texts(example):
        style = document_style(document)
        if kind == "targets":
            style = f"{style} bold"
        for number, part in enumerate(np.split(tokens, np.flatnonzero(tokens == end))):
            if number > 0:
                shown.append(f"[end of {kind}]", style=_END)
                part = part[1:]
            shown.append(legible(tokenizer.decode(part.tolist())), style=style)
    return shown


def _texts(example: Mapping[str, np.ndarray]) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yields the texts of an example: number of the document from 1 on, "document", "inputs" or "targets", tokens."""
    if "inputs" in example:
        yield from ((1, part, example[part]) for part in ("inputs", "targets"))
        return
    tokens, segments = example["tokens"], example.get("segment_ids")
    if segments is None:
        yield 1, "document", tokens
        return
    for document in range(1, segments.max(initial=0) + 1):
        own = tokens[segments == document]
        if "num_inputs" not in example:
            yield document, "document", own
        else:
            parts = np.split(own, [example["num_inputs"][document - 1]])
            yield from ((document, part, text) for part, text in zip(("inputs", "targets"), parts, strict=True))

"""Texts and small vocabularies for tests."""

from __future__ import annotations

import dataclasses
import functools
import os
import random
import signal
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st

from triarch.prepare.corpora.documents import Document
from triarch.prepare.corpora.origins import named
from triarch.prepare.sentencepiece_training import train_sentencepiece
from triarch.tokenizers import ByteTokenizer, SentencePieceTokenizer, Tokenizer

# What a tokenizer may lose: its own symbols, white space of all kinds, what has no piece, what looks special.
HARD_TEXTS = (
    "",
    " ",
    "  two  and\ttabs\t\t and trailing  ",
    "\n\n\r\n line ends \r \x0b\x0c\u2028",
    "a \u2581 b\u2581\u2581c\u2581",
    "<mask></s><pad><unk> <0x41> \u2047",
    "NUL \0 and BOM \ufeff and replacement \ufffd",
    "\u00e9 e\u0301 \ufb01 \u212b \uff21 \u1100\u1161",
    "\U0001f600\U0001f468\u200d\U0001f469 \u6f22\u5b57",
    "1234567890 3.14 0x1F",
)

# Everything that UTF-8 can hold.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(HARD_TEXTS)


@functools.cache
def small_sentencepiece(model_type: str = "bpe", size: int = 420) -> SentencePieceTokenizer:
    """Returns a vocabulary trained on a few made-up documents."""
    return train_sentencepiece([document.text for document in Documents().documents()], size, model_type)


def tokenizers() -> dict[str, Tokenizer]:
    """Returns one tokenizer of each kind by name."""
    return {"bytes": ByteTokenizer(), "bpe": small_sentencepiece("bpe"), "unigram": small_sentencepiece("unigram", 360)}


def kill_this_process(documents) -> None:
    """A worker that the system kills."""
    os.kill(os.getpid(), signal.SIGKILL)


def blocked_signals(documents) -> set[int]:
    """What a worker is deaf to."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


@dataclasses.dataclass(frozen=True)
class Documents:
    """A corpus of made-up documents, the hard texts among them."""

    count: int = 60
    repeat: int = 1

    def documents(self) -> Iterator[Document]:
        draw = random.Random(0)
        words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(1, 8))) for _ in range(200)]
        for index in range(self.count):
            lines = [" ".join(draw.choices(words, k=draw.randint(1, 12))) for _ in range(draw.randint(1, 20))]
            text = (HARD_TEXTS[index % len(HARD_TEXTS)] + "\n    ".join(lines)) * self.repeat
            # Runs of documents lie in one file, and some files come again.
            yield Document(text, text, 1, origin=named(f"file {index // 7 % 5}", index + 1, 10 * index, 10 * index + 9))

    @property
    def size(self) -> int:
        return self.count

    @property
    def version(self) -> str:
        return repr(self)

    def provenance(self) -> dict[str, Any]:
        return {"made_up": self.count}

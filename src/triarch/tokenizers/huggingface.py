"""Hugging Face's `tokenizer.json`: WordPiece, byte-level BPE, and what SentencePiece models were exported to."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers.models

import tokenizers
from triarch.data.manifest import MOST_IDS, Vocabulary
from triarch.data.token_bytes import TokenBytes
from triarch.errors import UserError
from triarch.files import read_regular
from triarch.tokenizers.base import MOST_TOKENIZER_BYTES, SPACE_SYMBOL, bytes_of, has_words, space_in
from triarch.tokenizers.chat import ChatTemplate
from triarch.tokenizers.cuts import Cutter, TokenizerInParts, unused_character
from triarch.tokenizers.special_tokens import (
    CHAT_TEMPLATE,
    MODEL_CONFIG,
    SPECIAL_TOKENS_MAP,
    TOKENIZER_CONFIG,
    chat_template,
    find_special,
    own_special,
    special_texts,
)

KIND = "huggingface"
TOKENIZER_FILE = "tokenizer.json"
# What a model's folder holds of its tokenizer; the first one is what triarch reads, the others are carried along.
_KEPT_FILES = (TOKENIZER_FILE, TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP, CHAT_TEMPLATE)
_BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")
# Byte-level vocabularies write a byte as one character: itself where it can be seen, else one from U+0100 on.
_SEEN = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) not in " \u00ad"]
_UNSEEN = sorted(set(range(256)) - set(_SEEN))
_BYTES = {chr(byte): byte for byte in _SEEN} | {chr(256 + number): byte for number, byte in enumerate(_UNSEEN)}
BYTE_LETTERS = sorted(_BYTES, key=_BYTES.__getitem__)


class HuggingFaceTokenizer(TokenizerInParts):
    """A tokenizer of the library `tokenizers`.

    Its ids are the library's own without special tokens added, and with `encode_special_tokens`: text that reads like
    a special token is text. In T5's unigram models the special tokens are pieces too, which SentencePiece never takes
    from text and the library does: other pieces stand there instead. What the file says of truncation and padding is
    not done.
    """

    def __init__(self, files: Mapping[str, bytes], name: str, special: Mapping[str, Any] | None = None):
        """A tokenizer from its files by name; `name` is what messages call it.

        Args:
          files: tokenizer.json; tokenizer_config.json, special_tokens_map.json and config.json where there are any.
          name: for messages.
          special: `Vocabulary.special` where it is known, extra ids included or not; found by `find_special` otherwise.

        Raises:
          UserError: a file is not what it should be, or no token ends a document.
        """
        self._files = {file: files[file] for file in _KEPT_FILES if file in files}
        self._name = name
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(files[TOKENIZER_FILE])
        except Exception as error:  # The library raises nothing narrower.
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{name}: not a Hugging Face {TOKENIZER_FILE}: {reason}") from None
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._added = self._tokenizer.get_added_tokens_decoder()
        self.size = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0) + 1
        if self.size > MOST_IDS:
            # The library allocates for every id below the largest, and where that fails ends the process.
            raise UserError(f"{name}: its {TOKENIZER_FILE} has id {self.size - 1:,}, expected ids below {MOST_IDS:,}")
        if special is None:
            added = {token.content: index for index, token in self._added.items() if token.special}
            special = find_special(name, files, added, self._tokenizer.token_to_id)
        # Of a vocabulary with extra ids: those below its size are its own.
        self._special = {"mask": None, **own_special(special, self.size)}
        self._special_ids = {index for index, token in self._added.items() if token.special}
        self._special_ids |= {index for index in self._special.values() if isinstance(index, int)}

    def __reduce__(self):
        return HuggingFaceTokenizer, (self._files, self._name, self._special)

    @classmethod
    def load(cls, path: Path, special: Mapping[str, Any] | None = None) -> HuggingFaceTokenizer:
        """Reads a folder with a tokenizer.json, or the file itself and what lies beside it.

        Raises:
          UserError: it cannot be read or is not usable.
        """
        folder = path if path.is_dir() else path.parent
        names = {TOKENIZER_FILE: folder / TOKENIZER_FILE if path.is_dir() else path}
        names |= {name: folder / name for name in (TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP, CHAT_TEMPLATE, MODEL_CONFIG)}
        files = {}
        for name, file in names.items():
            try:
                # A file that the user names may be a link; what lies beside it is the folder's.
                files[name] = read_regular(file, MOST_TOKENIZER_BYTES, None if file == path else folder)
            except FileNotFoundError as error:
                if name == TOKENIZER_FILE:
                    raise UserError(f"{file}: cannot be read: {error.strerror}") from None
            except OSError as error:
                raise UserError(f"{file}: cannot be read: {error.strerror}") from None
        return cls(files, str(path), special)

    @functools.cached_property
    def info(self) -> Vocabulary:
        """Its fingerprint is that of what the tokenizer does with a text, however the file puts it.

        Truncation, padding and what stands around texts do not count, nor options that are off: versions of the library
        that know more of these write more.
        """
        parts = ("added_tokens", "normalizer", "pre_tokenizer", "model", "decoder")
        does = {"special": self._special, **{part: _without_absent(self._config[part]) for part in parts}}
        digest = hashlib.sha256(json.dumps(does, sort_keys=True).encode())
        return Vocabulary(KIND, self.size, digest.hexdigest(), self._special)

    @functools.cached_property
    def _config(self) -> dict[str, Any]:
        """The library's own account of the file, complete where files of older versions are not."""
        return json.loads(self._tokenizer.to_str())

    @functools.cached_property
    def names(self) -> dict[int, str]:
        """What the file calls each id."""
        return {index: name for name, index in self._tokenizer.get_vocab(with_added_tokens=True).items()}

    @property
    def unk_id(self) -> int | None:
        """What stands for text that has no piece; None where every text has."""
        model = self._config["model"]
        if isinstance(model.get("unk_id"), int):
            return model["unk_id"]
        return self._tokenizer.token_to_id(model["unk_token"]) if model.get("unk_token") else None

    @functools.cached_property
    def token_texts(self) -> list[bytes]:
        """Bytes of each id's own text: a WordPiece token does not have the space before its word."""
        texts = [b""] * self.size
        byte_level = "ByteLevel" in _component_types(self._config)
        model = self._config["model"]
        for piece, index in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if index in self._special_ids or index == self.unk_id:
                continue
            if index in self._added:
                texts[index] = piece.encode()
            elif byte_level:
                texts[index] = bytes(_BYTES.get(letter, 0) for letter in piece)
            elif _BYTE_PIECE.fullmatch(piece) and model.get("byte_fallback"):
                texts[index] = bytes.fromhex(piece[3:5])
            else:
                texts[index] = _plain_text(piece, model).encode()
        return texts

    @functools.cached_property
    def token_bytes(self) -> TokenBytes:
        """Lengths of `token_texts`, of a text's first one without the space that some put before it."""
        read = b"".join(self.token_texts[index] for index in self._ids(self._probe))
        symbol = [self._tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in SPACE_SYMBOL.encode()]
        space = space_in(self._ids(f"{self._probe} {self._probe}"), symbol)
        return bytes_of(self.token_texts, read[:1] == b" " != self._probe[:1].encode(), space)

    def chat_template(self) -> ChatTemplate | None:
        """Returns the template in which the tokenizer's model reads conversations; None where it has none.

        Raises:
          UserError: it is no template.
        """
        found = chat_template(self._name, self._files)
        if found is None:
            return None
        ends = frozenset(token.content for token in self._added.values() if token.special)
        return ChatTemplate(found, f"{self._name}: its chat template", self.special_texts(), ends)

    def special_texts(self) -> dict[str, str]:
        """Returns the texts of special tokens by the fields that name them, as "bos_token"."""
        return special_texts(self._name, self._files)

    def encode_rendered(self, inputs: str, targets: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of a text that a chat template made, in two parts: names of special tokens are those tokens.

        A token that begins in `inputs` is of the first part, wherever it ends.
        """
        encoded = self._with_special.encode(inputs + targets, add_special_tokens=False)
        ids = np.array(encoded.ids, np.int32)
        starts = np.array([start for start, _ in encoded.offsets], np.int64)
        first = min(int(np.searchsorted(starts, len(inputs))), max(0, len(ids) - 1))
        return ids[:first], ids[first:]

    @functools.cached_property
    def _with_special(self) -> tokenizers.Tokenizer:
        made = tokenizers.Tokenizer.from_buffer(self._files[TOKENIZER_FILE])
        made.no_truncation()
        made.no_padding()
        return made

    def decode(self, ids: Sequence[int]) -> str:
        kept = [int(index) for index in ids if int(index) not in self._special_ids]
        text = self._tokenizer.decode(kept, skip_special_tokens=False)
        return text.replace(SPACE_SYMBOL, " ") if self.token_bytes.space else text

    @functools.cached_property
    def _probe(self) -> str:
        """A text that has ids: not every tokenizer has some for every text."""
        texts = (text.decode(errors="ignore").strip() for text in self.token_texts)
        return next((text for text in ("a", *texts) if text and self._ids(text)), "")

    @functools.cached_property
    def frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids that the library itself puts before and after a text: ([CLS],), ([SEP],) for BERT."""
        framed = self._tokenizer.encode(self._probe)
        of_text = [place for place, sequence in enumerate(framed.sequence_ids) if sequence is not None]
        if not of_text:
            return (), ()
        return tuple(framed.ids[: of_text[0]]), tuple(framed.ids[of_text[-1] + 1 :])

    def framer(self, window: int) -> Callable[[Sequence[tuple[Any, str | None]]], list[tokenizers.Encoding]]:
        """Returns the function from texts, or pairs of texts, to their encodings, framed as the library does it.

        A text may be a list of words. At most `window` tokens of each are kept; the longer text of a pair is cut first.
        """
        framer = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        framer.encode_special_tokens = True
        framer.enable_truncation(window, strategy="longest_first")

        def framed(rows: Sequence[tuple[Any, str | None]]) -> list[tokenizers.Encoding]:
            of_words = bool(rows) and not isinstance(rows[0][0], str)
            texts = [
                list(first) if of_words else first if second is None else (first, second) for first, second in rows
            ]
            try:
                return framer.encode_batch(texts, is_pretokenized=of_words)
            except Exception as error:  # The library raises nothing narrower.
                raise UserError(f"{self._name}: cannot frame texts in {window} tokens: {error}") from None

        return framed

    def takes_space_before(self, index: int) -> bool:
        """Whether a token takes the space before it, as a mask may that stands for a word with its space."""
        return index in self._added and self._added[index].lstrip

    def save(self, folder: Path) -> None:
        for name, content in self._files.items():
            (folder / name).write_bytes(content)

    def _encode(self, text: str) -> np.ndarray:
        return np.array(self._ids(text), np.int32)

    def _ids(self, text: str) -> list[int]:
        # The library's fast path, without offsets, is there for batches only.
        ids = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        if self._instead.keys().isdisjoint(ids):
            return ids
        return [other for index in ids for other in self._instead.get(index, (index,))]

    @functools.cached_property
    def _instead(self) -> dict[int, list[int]]:
        """The ids that stand for a special token's name where it is text, by the token's id."""
        model = self._config["model"]
        if model["type"] != "Unigram":
            return {}
        # The same pieces and scores, but no text matches the special ones.
        vocab = [
            ("" if index in self._special_ids else piece, score) for index, (piece, score) in enumerate(model["vocab"])
        ]
        plain = tokenizers.Tokenizer(
            tokenizers.models.Unigram(vocab, self.unk_id, byte_fallback=bool(model.get("byte_fallback")))
        )
        special = self._special_ids - {self.unk_id}
        return {index: plain.encode(self._tokenizer.id_to_token(index)).ids for index in special}

    @functools.cached_property
    def _cutter(self) -> Cutter:
        model = self._config["model"]
        kinds = _component_types(self._config)
        names = self._tokenizer.get_vocab(with_added_tokens=True)
        # Those that look up words: what continues one is part of a word too long to be known.
        by_words = model["type"] in ("WordPiece", "WordLevel")
        # Added tokens that are not special are found in text; some take the spaces beside them too.
        found = [token for token in self._added.values() if not token.special]
        words = {*self._tokenizer.get_vocab(with_added_tokens=False), *(token.content for token in found)}
        takes_space_after = any(token.rstrip and token.content[-1:].isalpha() for token in found)
        pieces: frozenset[str | bytes] = frozenset(self.token_texts)
        texts = (piece.decode(errors="ignore") for piece in self.token_texts)
        if "ByteLevel" not in kinds:
            pieces = frozenset({*names, *texts})
        anchor = unused_character(names)
        if model["type"] == "WordPiece":
            anchor = "a" * (model["max_input_chars_per_word"] + 1)
        elif by_words or ("ByteLevel" in kinds and not _puts_space_first(self._config)):
            anchor = ""
        return Cutter(
            encode=self._encode,
            anchor=anchor,
            pieces=None if by_words else lambda: pieces,
            normalize=self._normalize,
            between_words=not takes_space_after and has_words(self._ids, words),
            # A suffix changes the last piece of a text; of bytes that the normalizer makes pieces are not told apart.
            exact=not model.get("end_of_word_suffix") and "ByteLevel" not in _types(self._config.get("normalizer")),
            takes_spaces=any(token.lstrip or token.rstrip for token in found),
        )

    def _normalize(self, text: str) -> str:
        normalizer = self._tokenizer.normalizer
        return (normalizer.normalize_str(text) if normalizer is not None else text).replace(SPACE_SYMBOL, " ")


def _plain_text(piece: str, model: Mapping[str, Any]) -> str:
    prefix, suffix = (model.get(name) or "" for name in ("continuing_subword_prefix", "end_of_word_suffix"))
    piece = piece.removeprefix(prefix)
    spaced = piece.removesuffix(suffix) + " " if suffix and piece.endswith(suffix) else piece
    return spaced.replace(SPACE_SYMBOL, " ")


def _without_absent(value: Any) -> Any:
    """Returns a part of a tokenizer.json without options that are null, false or empty texts."""
    if isinstance(value, dict):
        return {name: _without_absent(one) for name, one in value.items() if one not in (None, "") and one is not False}
    return [_without_absent(one) for one in value] if isinstance(value, list) else value


def _component_types(config: Mapping[str, Any]) -> set[str]:
    """Returns the types of all that comes before and after the model."""
    return {kind for part in ("pre_tokenizer", "decoder") for kind in _types(config.get(part))}


def _puts_space_first(config: Mapping[str, Any]) -> bool:
    return '"add_prefix_space": true' in json.dumps(config.get("pre_tokenizer"))


def _types(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value["type"]
        for child in value.values():
            yield from _types(child)
    elif isinstance(value, list):
        for child in value:
            yield from _types(child)

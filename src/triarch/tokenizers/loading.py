"""Tokenizers from files: given ones, and those that stores, runs and exports carry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch import schema
from triarch.data.manifest import FILE_NAME, VOCABULARY, Vocabulary, parse_vocabulary
from triarch.errors import UserError
from triarch.files import check_regular, regular_files
from triarch.schema import Anything, Items, OrNull, Record
from triarch.tokenizers import bytes as byte_level
from triarch.tokenizers import huggingface, ids, sentencepiece
from triarch.tokenizers.base import Tokenizer
from triarch.tokenizers.bytes import ByteTokenizer
from triarch.tokenizers.extra_ids import MOST_SENTINELS, ExtraIds, with_extra_ids
from triarch.tokenizers.huggingface import TOKENIZER_FILE, HuggingFaceTokenizer
from triarch.tokenizers.ids import IdTokenizer
from triarch.tokenizers.sentencepiece import MODEL_FILE, SentencePieceTokenizer
from triarch.tokenizers.special_tokens import OWN_VOCABULARY, TOKENIZER_CONFIG

if TYPE_CHECKING:  # Tokenizing processes import this module, and need no Grain.
    from triarch.data.store import TokenStore

KINDS = (byte_level.KIND, sentencepiece.KIND, huggingface.KIND, ids.KIND)
# What Hugging Face folders call their SentencePiece model.
_MODEL_NAMES = (MODEL_FILE, "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
_TOKENIZER_CONFIG = Record({"additional_special_tokens": OrNull(Items(Anything()))}, others=True)


def given_tokenizer(path: Path) -> Tokenizer:
    """Returns the tokenizer at `path`: a `.model` or tokenizer.json file, or the folder of a model that holds one.

    Raises:
      UserError: there is none, or it is not usable.
    """
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"{path}: cannot be read: No such file or directory")
        return HuggingFaceTokenizer.load(path) if path.suffix == ".json" else SentencePieceTokenizer.load(path)
    for folder in (path, path / VOCABULARY):
        config = _tokenizer_config(folder, path)
        own = _own_tokenizer(folder, config)
        if own is not None:
            return own
        if (folder / TOKENIZER_FILE).is_file():
            check_regular(folder / TOKENIZER_FILE, path)
            return HuggingFaceTokenizer.load(folder)
        for name in _MODEL_NAMES:
            if (folder / name).is_file():
                check_regular(folder / name, path)
                base = SentencePieceTokenizer.load(folder / name)
                return with_extra_ids(base, ExtraIds(sentinels=_sentinels_behind(base, config)))
    if (path / FILE_NAME).is_file():
        raise UserError(f"{path}: no tokenizer's folder: a store's vocabulary is taken with --vocabulary_from={path}")
    raise UserError(
        f"{path}: holds neither {TOKENIZER_FILE} nor a SentencePiece model ({', '.join(_MODEL_NAMES)}); transformers' "
        "AutoTokenizer writes the former with save_pretrained"
    )


def _tokenizer_config(folder: Path, home: Path) -> Mapping[str, Any]:
    """Returns what a folder's tokenizer_config.json holds; nothing where there is none."""
    try:
        return schema.read(folder / TOKENIZER_CONFIG, _TOKENIZER_CONFIG, home=home)
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _sentinels_behind(base: SentencePieceTokenizer, config: Mapping[str, Any]) -> int:
    """Returns how many of T5's sentinels stand behind the pieces, as transformers' T5Tokenizer puts them there."""
    named = config.get("additional_special_tokens") or ()
    count = config.get("extra_ids", sum(str(name).startswith("<extra_id_") for name in named))
    is_count = isinstance(count, int) and not isinstance(count, bool) and 0 < count <= MOST_SENTINELS
    return count if is_count and "sentinels" not in base.info.special else 0


def _own_tokenizer(folder: Path, config: Mapping[str, Any]) -> Tokenizer | None:
    """Returns the vocabulary of ours that an exported Hugging Face tokenizer is, if it still is that."""
    if OWN_VOCABULARY not in config:
        return None
    try:
        own = parse_vocabulary(config[OWN_VOCABULARY], str(folder))
        tokenizer = read_tokenizer(own, folder, str(folder))
        size = HuggingFaceTokenizer.load(folder).size
    except UserError:
        return None
    return tokenizer if size == tokenizer.info.size else None


def load_tokenizer(store: TokenStore) -> Tokenizer:
    """Returns the tokenizer of a store.

    Raises:
      UserError: the vocabulary is missing, damaged or of an unknown kind.
    """
    return read_tokenizer(store.manifest.vocabulary, store.vocabulary_folder, str(store.path))


def read_tokenizer(info: Vocabulary, folder: Path, name: str) -> Tokenizer:
    """Returns the tokenizer that `Tokenizer.save` wrote into `folder`, as `info` describes it.

    Args:
      info: what the manifest of a store, run or export says of the vocabulary.
      folder: its vocabulary folder.
      name: what messages call the store, run or export.

    Raises:
      UserError: the vocabulary is missing, damaged or of an unknown kind, or one of its files is a link that leaves the
        store, run or export, or a device, FIFO or socket.
    """
    if folder.is_dir() and folder.name == VOCABULARY:
        regular_files(folder, folder.parent)
    if info.kind not in KINDS:
        raise UserError(f"{name}: unknown kind of vocabulary {info.kind!r} (one of: {', '.join(KINDS)})")
    if info.kind == ids.KIND:
        return IdTokenizer(info)
    if info.kind == byte_level.KIND:
        base: Tokenizer = ByteTokenizer()
    elif info.kind == sentencepiece.KIND:
        base = SentencePieceTokenizer.load(folder / MODEL_FILE, folder.parent)
    else:
        base = HuggingFaceTokenizer.load(folder, info.special)
    tokenizer = with_extra_ids(base, ExtraIds.found_in(info, base.info.size))
    if tokenizer.info.fingerprint != info.fingerprint:
        raise UserError(f"{name}: the vocabulary does not match the manifest: prepare the store again")
    return tokenizer

"""Small tokenizers in the layouts of the field's models, trained on the spot with the library `tokenizers`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

from tokenizers.models import BPE, Unigram, WordPiece

from tests.tokenizers.texts import Documents
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers

_LLAMA3_WORDS = r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def gpt2() -> Tokenizer:
    """Byte-level BPE; one special token for everything."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _trained(tokenizer, _byte_trainer(["<|endoftext|>"]))


def llama3() -> Tokenizer:
    """Byte-level BPE after a regular expression; puts a start token before every text."""
    tokenizer = Tokenizer(BPE())
    words = pre_tokenizers.Split(Regex(_LLAMA3_WORDS), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer = _trained(tokenizer, _byte_trainer(["<|begin_of_text|>", "<|end_of_text|>"]))
    _put_around(tokenizer, "<|begin_of_text|> $A", "<|begin_of_text|>")
    return tokenizer


def modernbert() -> Tokenizer:
    """Byte-level BPE of composed characters, runs of spaces as added tokens that are text; cuts texts to 8 tokens."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer = _trained(tokenizer, _byte_trainer(["[PAD]", "[CLS]", "[SEP]", "[MASK]"]))
    tokenizer.add_tokens([AddedToken(" " * count, normalized=False) for count in range(24, 1, -1)])
    _put_around(tokenizer, "[CLS] $A [SEP]", "[CLS]", "[SEP]")
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8, pad_id=0, pad_token="[PAD]")
    return tokenizer


def bert() -> Tokenizer:
    """WordPiece of lower-cased words."""
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = _trained(tokenizer, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    _put_around(tokenizer, "[CLS] $A [SEP]", "[CLS]", "[SEP]")
    return tokenizer


def t5() -> Tokenizer:
    """SentencePiece unigram as exported for T5: a space before the text, sentinels at the end, the first one last."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>")
    tokenizer = _trained(tokenizer, trainer)
    tokenizer.add_special_tokens([f"<extra_id_{index}>" for index in range(9, -1, -1)])
    _put_around(tokenizer, "$A </s>", "</s>")
    return tokenizer


def gemma() -> Tokenizer:
    """SentencePiece BPE with bytes for what has no piece, as exported for Gemma: nothing before the text."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("\u2581+[^\u2581]*"), "isolated")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokenizer = _trained(tokenizer, trainers.BpeTrainer(vocab_size=300, special_tokens=special))
    fields = json.loads(tokenizer.to_str())
    vocab = fields["model"]["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    fields["model"] |= {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}
    tokenizer = Tokenizer.from_str(json.dumps(fields))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


LAYOUTS: dict[str, Callable[[], Tokenizer]] = {
    layout.__name__: functools.cache(layout) for layout in (gpt2, llama3, modernbert, bert, t5, gemma)
}


def write_folder(folder: Path, layout: str, **configs: dict) -> Path:
    """Writes tokenizer.json of `layout` and NAME.json for each of `configs` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    LAYOUTS[layout]().save(str(folder / "tokenizer.json"))
    for name, fields in configs.items():
        (folder / f"{name}.json").write_text(json.dumps(fields))
    return folder


def _byte_trainer(special: list[str]) -> trainers.BpeTrainer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)


def _trained(tokenizer: Tokenizer, trainer) -> Tokenizer:
    tokenizer.train_from_iterator((document.text for document in Documents().documents()), trainer)
    return tokenizer


def _put_around(tokenizer: Tokenizer, template: str, *tokens: str) -> None:
    ids = [(token, tokenizer.token_to_id(token)) for token in tokens]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)

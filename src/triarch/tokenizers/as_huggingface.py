"""A vocabulary as the files of a Hugging Face tokenizer: tokenizer.json and tokenizer_config.json.

`transformers.AutoTokenizer` then makes of a text the ids that we make of it, with what the model reads around a text.
Bytes become a byte-level BPE without merges. A SentencePiece model becomes a BPE or Unigram model over its pieces, in
which spaces stand as spaces: so a literal U+2581 is told from a space, as it is in our encoding, and falls back to
bytes. A tokenizer.json of a given vocabulary stays as it is, with the extra ids added.
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sentencepiece import sentencepiece_model_pb2 as model_pb2

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from triarch.errors import UserError
from triarch.tokenizers.base import SPACE_SYMBOL, Tokenizer
from triarch.tokenizers.extra_ids import TokenizerWithExtraIds
from triarch.tokenizers.huggingface import BYTE_LETTERS, TOKENIZER_FILE, HuggingFaceTokenizer
from triarch.tokenizers.ids import IdTokenizer
from triarch.tokenizers.sentencepiece import SentencePieceTokenizer
from triarch.tokenizers.special_tokens import OWN_VOCABULARY, TOKENIZER_CONFIG

# The class of transformers that takes tokenizer.json as it is, for any model; versions 4 and 5 know it by this name.
_CLASS = "PreTrainedTokenizerFast"
_ROLES = ("bos", "eos", "pad", "mask")
_PIECE = model_pb2.ModelProto.SentencePiece
_OF_TEXT = (_PIECE.NORMAL, _PIECE.USER_DEFINED)
_NO_TEXT = (_PIECE.CONTROL, _PIECE.UNKNOWN)
_BYTE_NAMES = ["<pad>", "</s>", "<unk>", *BYTE_LETTERS, "<mask>"]
# Of what no text may match: more unlikely than any other way to read its name, character by character.
_UNKNOWN_PENALTY = 10.0
# Texts on which what is written is compared with the vocabulary.
_TEXTS = (
    *("", " ", "  ", "a", " a", "a ", "  a  b  ", "\t", "\n", "a\r\nb\n\n", "\0", "a\0b", "one\ttwo\n three", "a\x0bb"),
    *("Hello, world!", "It's 1,234.50 at 12:30.", "HELLO wORLD", "the cat sat on the mat", "x" * 300, "aaaaa" * 20),
    *("naïve café", "cafe\u0301", "日本語のテキスト", "中文 文本", "مرحبا بالعالم", "Привет, мир", "हिन्दी", "한국어"),
    *("🙂", "👩‍👩‍👧 🇩🇪", "\u2028\u2029\x85", "\ufeffa", "\ufffd", "\u00a0a\u3000b\u200b", "\U0010ffff", "\ue000"),
    *("▁", "▁▁", "▁a", "a▁ b▁", " ▁ ", "_a", "<0x0A>", "<0xE2><0x96>", "</s>", "<s>", "a</s>b", " </s> ", "<unk>"),
    *("<pad>", "<mask>", "[MASK]", "<extra_id_0>", "[CLS] [SEP]", "<|endoftext|>", "<", "def f(x):\n    return x\n"),
    *(
        "ffi \ufb01 \u2163 \uff46\uff55 \u2460",
        "İstanbul ẞ ß",
        "a\u0301\u0301",
        "AGCTTAGCTTTTAGC",
        "https://a.b/c?d=e&f#g",
    ),
)
_RUNS = tuple(f"{a}{' ' * count}{b}" for count in range(2, 40) for a, b in ("ab", "12", "\n:"))
_MADE_TEXTS = 1000


@dataclasses.dataclass(frozen=True)
class TextReading:
    """How a model reads text.

    Attributes:
      before: ids that stand before a text.
      after: ids that stand after it.
      mask: whether the mask's name in a text is the mask, as a prompt of an encoder has it.
      sentinels: whether the sentinels' names in a text are these, as a prompt of an encoder-decoder has them.
      token_types: whether the second text of a pair has the token type 1.
    """

    before: Sequence[int] = ()
    after: Sequence[int] = ()
    mask: bool = False
    sentinels: bool = False
    token_types: bool = False


@dataclasses.dataclass(frozen=True)
class TokenizerFiles:
    """What AutoTokenizer needs.

    Attributes:
      contents: by file name.
      differing: texts among `tried` whose ids are others than the vocabulary's.
      tried: how many texts were compared.
    """

    contents: Mapping[str, bytes]
    differing: Sequence[str] = ()
    tried: int = 0


def huggingface_files(tokenizer: Tokenizer, files: Mapping[str, bytes], reading: TextReading) -> TokenizerFiles:
    """Returns what AutoTokenizer needs to give the ids of `tokenizer`.

    The ids are those of every text, but for what `tokenizers` cannot express: normalizers of given SentencePiece models
    where marks are heaped on a letter, and ties between pieces of a unigram model. Some texts are compared.

    Text that reads like another special token than those of `reading` is text, as it is here: transformers is told so
    (`split_special_tokens`). It finds a mask only where it finds all special tokens, so the others of an encoder get
    names that are not usual ones: `<|pad|>`. A vocabulary that came as tokenizer.json keeps its own way with them.

    Args:
      tokenizer: any.
      files: of the vocabulary, as they are.
      reading: of the model.

    Raises:
      UserError: the vocabulary has no equal in the library `tokenizers`.
    """
    base = tokenizer.base if isinstance(tokenizer, TokenizerWithExtraIds) else tokenizer
    if isinstance(base, IdTokenizer):
        raise UserError("a vocabulary of ids only has no equal in the library tokenizers")
    names = _Names(tokenizer, base, rename=reading.mask)
    config: dict[str, Any] = {}
    if isinstance(base, HuggingFaceTokenizer):
        if TOKENIZER_CONFIG in files:
            config = json.loads(files[TOKENIZER_CONFIG])
            if not names.extra and base.frame == (tuple(reading.before), tuple(reading.after)):
                return TokenizerFiles(files)
        made = tokenizers.Tokenizer.from_buffer(files[TOKENIZER_FILE])
        made.no_truncation()
        made.no_padding()
        # These put a start and an end of their own around texts.
        config = {name: value for name, value in config.items() if name not in ("add_bos_token", "add_eos_token")}
    else:
        made = _of_sentencepiece(base, names) if isinstance(base, SentencePieceTokenizer) else _of_bytes(names)
        config = {"split_special_tokens": not reading.mask, "clean_up_tokenization_spaces": False}
        config[OWN_VOCABULARY] = dataclasses.asdict(tokenizer.info)
    in_text = names.in_text(reading)
    added = names.special_ids(made)
    made.add_tokens([AddedToken(names.of[i], special=i not in in_text, normalized=False) for i in added])
    for index in added:
        if made.token_to_id(names.of[index]) != index:
            raise UserError(f"its {names.of[index]!r} has id {index} and would get {made.token_to_id(names.of[index])}")
    made.post_processor = _template(reading, names)
    special = tokenizer.info.special
    config |= {f"{role}_token": names.of[special[role]] for role in _ROLES if special[role] is not None}
    if names.unknown is not None:
        config.setdefault("unk_token", names.of[names.unknown])
    config |= {"tokenizer_class": _CLASS, "model_input_names": ["input_ids", "attention_mask"]}
    if reading.token_types:
        config["model_input_names"] += ["token_type_ids"]
    content = made.to_str(pretty=True)
    not_text = [names.of[i] for i in in_text]
    if isinstance(base, HuggingFaceTokenizer):
        not_text += [token.content for token in made.get_added_tokens_decoder().values() if token.special]
    contents = {
        TOKENIZER_FILE: (content + "\n").encode(),
        TOKENIZER_CONFIG: (json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(),
    }
    return TokenizerFiles(contents, *_differing(tokenizer, content, not_text))


class _Names:
    """What special tokens are called.

    Attributes:
      of: name by id, of all ids of own vocabularies; of a given tokenizer.json, of the ids that matter here.
      extra: ids behind the base vocabulary.
      unknown: the id of text that has no piece, if there is one.
    """

    def __init__(self, tokenizer: Tokenizer, base: Tokenizer, rename: bool):
        self._special = tokenizer.info.special
        self.extra = range(base.info.size, tokenizer.info.size)
        if isinstance(base, HuggingFaceTokenizer):
            self.of = base.names
            self.unknown = base.unk_id
            self._fixed: set[int] = set()
        elif isinstance(base, SentencePieceTokenizer):
            pieces = model_pb2.ModelProto.FromString(base.model).pieces
            # Where a literal U+2581 is no space, pieces have plain spaces.
            space = " " if base.space_symbol_ids else SPACE_SYMBOL
            self.of = {
                index: piece.piece.replace(SPACE_SYMBOL, space) if piece.type in _OF_TEXT else piece.piece
                for index, piece in enumerate(pieces)
            }
            self.unknown = next(index for index, piece in enumerate(pieces) if piece.type == _PIECE.UNKNOWN)
            self._fixed = {index for index, piece in enumerate(pieces) if piece.type in _NO_TEXT}
        else:
            self.of = dict(enumerate(_BYTE_NAMES))
            self.unknown = _BYTE_NAMES.index("<unk>")
            self._fixed = {0, 1, 2, len(_BYTE_NAMES) - 1}
        mask = self._special["mask"]
        renamed = [(index, f"<|{self.of[index].strip('<>[]|')}|>") for index in sorted(self._fixed - {mask}) if rename]
        taken = {name for index, name in self.of.items() if index not in dict(renamed)}
        for index, name in (*renamed, *self._extra_names(rename)):
            while name in taken:
                name = f"<{name}>"
            taken.add(name)
            self.of[index] = name

    def special_ids(self, made: tokenizers.Tokenizer) -> list[int]:
        """Returns the ids to be added tokens, ascending: those that are not yet, and no text may match."""
        own = {index for index in self._own_special() if index not in made.get_added_tokens_decoder()}
        return sorted(own | self._fixed | set(self.extra))

    def in_text(self, reading: TextReading) -> set[int]:
        """Returns the ids whose names are found in texts."""
        mask = {self._special["mask"]} if reading.mask else set()
        return mask | (set(self._sentinels()) if reading.sentinels else set())

    def _own_special(self) -> set[int]:
        roles = {self._special[role] for role in _ROLES} - {None}
        return roles | set(self._sentinels()) | set(self._special.get("modes", {}).values())

    def _sentinels(self) -> range:
        first, count = self._special.get("sentinels", (-1, 0))
        return range(first, first - count, -1)

    def _extra_names(self, rename: bool) -> Iterator[tuple[int, str]]:
        if self._special["mask"] in self.extra:
            yield self._special["mask"], "<mask>"
        mark = "|" if rename else ""
        named = [(index, f"[{mark}{mode}{mark}]") for mode, index in self._special.get("modes", {}).items()]
        named += [(index, f"<{mark}extra_id_{number}{mark}>") for number, index in enumerate(self._sentinels())]
        yield from ((index, name) for index, name in named if index in self.extra)


def _of_bytes(names: _Names) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE({name: index for index, name in names.of.items()}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def _of_sentencepiece(base: SentencePieceTokenizer, names: _Names) -> tokenizers.Tokenizer:
    proto = model_pb2.ModelProto.FromString(base.model)
    rules = proto.normalizer_spec
    space = " " if base.space_symbol_ids else SPACE_SYMBOL
    text_ids = {i for i, piece in enumerate(proto.pieces) if piece.type in _OF_TEXT}
    vocabulary = names.of
    if len(set(vocabulary.values())) != len(vocabulary):
        raise UserError("two pieces of its vocabulary have the same name")
    fallback = proto.trainer_spec.byte_fallback
    unknown = names.unknown
    assert unknown is not None  # Every SentencePiece model has one.
    if proto.trainer_spec.model_type == model_pb2.TrainerSpec.UNIGRAM:
        made = _unigram(proto, vocabulary, text_ids, unknown, fallback)
    elif proto.trainer_spec.model_type in (model_pb2.TrainerSpec.BPE, model_pb2.TrainerSpec.CHAR):
        by_name = {name: index for index, name in vocabulary.items()}
        scores = {vocabulary[i]: proto.pieces[i].score for i in text_ids if proto.pieces[i].type == _PIECE.NORMAL}
        merges = _merges(scores)
        unk_token = vocabulary[unknown]
        made = tokenizers.Tokenizer(
            models.BPE(by_name, merges, unk_token=unk_token, fuse_unk=True, byte_fallback=fallback)
        )
    else:
        kind = model_pb2.TrainerSpec.ModelType.Name(proto.trainer_spec.model_type)
        raise UserError(f"a SentencePiece model of type {kind} has no equal in the library tokenizers")
    made.add_tokens(
        [
            AddedToken(vocabulary[i], special=False, normalized=False)
            for i in sorted(text_ids)
            if proto.pieces[i].type == _PIECE.USER_DEFINED
        ]
    )
    made.normalizer = _normalizer(rules, space)
    made.decoder = _decoder(rules, space)
    return made


def _unigram(
    proto: model_pb2.ModelProto, vocabulary: Mapping[int, str], text_ids: set[int], unknown: int, fallback: bool
) -> tokenizers.Tokenizer:
    """Returns a Unigram model in which no text matches special pieces, though they are in its vocabulary.

    They are less likely than any way to read their names piece by piece. Characters of no piece are less likely still,
    so they are parted from what is around them, which they are in the model's sight anyway.
    """
    lowest = min((proto.pieces[i].score for i in text_ids), default=0.0) - _UNKNOWN_PENALTY
    special = [name for i, name in vocabulary.items() if i not in text_ids]
    never = (max(map(len, special), default=0) + 1) * min(lowest, -1.0)
    ordered = [(vocabulary[i], proto.pieces[i].score if i in text_ids else never) for i in range(len(vocabulary))]
    made = tokenizers.Tokenizer(models.Unigram(ordered, unk_id=unknown, byte_fallback=fallback))
    known = set("".join(vocabulary[i] for i in text_ids))
    unknown_letters = set("".join(special)) - known
    if unknown_letters and fallback:
        made.pre_tokenizer = pre_tokenizers.Split(Regex(f"[{_escaped(unknown_letters)}]"), "isolated")
    elif unknown_letters:
        # Several unknown characters in a row are one token.
        made.pre_tokenizer = pre_tokenizers.Split(Regex(f"[^{_escaped(known)}]+"), "isolated")
    return made


def _escaped(letters: set[str]) -> str:
    return "".join(map(re.escape, sorted(letters)))


def _merges(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Returns the merges of pieces, the best first: of each piece all its halves.

    SentencePiece takes the leftmost of equally good merges, whatever their halves; `tokenizers` all merges of two
    halves before those of two others. They meet only where the same piece can be made in two ways that share a part,
    x y and y z of x y z; then the former comes first.
    """
    merges: list[tuple[float, str, bool, int]] = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            if piece[:cut] in scores and piece[cut:] in scores:
                begins_another = piece.startswith(piece[cut:])
                merges.append((-score, piece, not begins_another, -cut))
    merges.sort()
    return [(piece[:-cut], piece[-cut:]) for _, piece, _, cut in merges]


def _normalizer(rules: model_pb2.NormalizerSpec, space: str) -> normalizers.Normalizer | None:
    steps: list[Any] = []
    # Of a text of spaces alone nothing is left, nor put before it, where extra ones go; another text is not empty.
    first = rules.add_dummy_prefix and not rules.remove_extra_whitespaces
    if first:
        steps.append(normalizers.Prepend(" "))
    if rules.precompiled_charsmap:
        steps.append(normalizers.Precompiled(rules.precompiled_charsmap))
    if rules.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if space != " ":
        steps.append(normalizers.Replace(" ", space))
    if rules.add_dummy_prefix and not first:
        steps.append(normalizers.Prepend(space))
    if rules.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(rf"{space}+\z"), ""))
    return normalizers.Sequence(steps) if steps else None


def _decoder(rules: model_pb2.NormalizerSpec, space: str) -> decoders.Decoder:
    steps: list[Any] = [decoders.Replace(space, " ")] if space != " " else []
    steps += [decoders.ByteFallback(), decoders.Fuse()]
    if rules.add_dummy_prefix or rules.remove_extra_whitespaces:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def _template(reading: TextReading, names: _Names) -> processors.TemplateProcessing:
    before, after = ([names.of[i] for i in ids] for ids in (reading.before, reading.after))
    around = {names.of[i]: i for i in (*reading.before, *reading.after)}
    single, second = [*before, "$A", *after], ["$B", *after]
    if reading.token_types:
        second = [f"{part}:1" for part in second]
    return processors.TemplateProcessing(single=single, pair=[*single, *second], special_tokens=list(around.items()))


def _differing(tokenizer: Tokenizer, content: str, not_text: Sequence[str]) -> tuple[list[str], int]:
    """Returns texts of which a tokenizer.json makes other ids than `tokenizer`, and how many were compared.

    Args:
      tokenizer: the vocabulary's.
      content: of the tokenizer.json.
      not_text: what is more than text to it.

    Raises:
      UserError: a tenth of the texts differ, or more.
    """
    made = tokenizers.Tokenizer.from_str(content)
    made.encode_special_tokens = True
    texts = [*_TEXTS, *_RUNS, *_made_texts(tokenizer)]
    texts = [text for text in texts if not any(name in text for name in not_text)]
    theirs = made.encode_batch_fast(texts, add_special_tokens=False)
    differing = [text for text, one in zip(texts, theirs, strict=True) if one.ids != tokenizer.encode(text).tolist()]
    if 10 * len(differing) >= len(texts):
        raise UserError(f"{len(differing)} of {len(texts):,} texts tried would get other ids")
    return sorted(differing, key=len), len(texts)


def _made_texts(tokenizer: Tokenizer) -> Iterator[str]:
    """Yields texts of tokens drawn at random, the same for a vocabulary."""
    draw = random.Random(0)
    pieces = [text.decode(errors="ignore") for text in tokenizer.token_texts]
    pieces = [piece for piece in pieces if piece] or ["a"]
    for _ in range(_MADE_TEXTS):
        yield "".join(draw.choices(pieces, k=draw.randint(1, 12)))

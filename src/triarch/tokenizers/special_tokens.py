"""Which of a Hugging Face tokenizer's ids are special, and for what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from triarch import schema
from triarch.errors import UserError
from triarch.schema import Anything, MapOf

TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS_MAP = "special_tokens_map.json"
MODEL_CONFIG = "config.json"
CHAT_TEMPLATE = "chat_template.jinja"
# The key of tokenizer_config.json that says which vocabulary of ours an exported tokenizer is.
OWN_VOCABULARY = "triarch_vocabulary"

# The fields of tokenizer_config.json, the first one set counts: BERT's [CLS] and [SEP] are its start and end.
_FIELDS = {
    "pad": ("pad_token",),
    "bos": ("bos_token", "cls_token"),
    "eos": ("eos_token", "sep_token"),
    "mask": ("mask_token",),
}
# What they are usually called, for a tokenizer.json that comes alone.
_NAMES = {
    "pad": ("<pad>", "[PAD]", "<|padding|>", "<|pad|>", "<|finetune_right_pad_id|>"),
    "bos": ("<s>", "[CLS]", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "[BOS]"),
    "eos": ("</s>", "[SEP]", "<eos>", "<|end_of_text|>", "<|endoftext|>", "[EOS]"),
    "mask": ("<mask>", "[MASK]", "<|mask|>"),
}


def find_special(
    name: str, files: Mapping[str, bytes], added: Mapping[str, int], token_to_id: Callable[[str], int | None]
) -> dict[str, Any]:
    """Returns `Vocabulary.special` of a Hugging Face tokenizer.

    "pad", "bos", "eos", "mask" are those of tokenizer_config.json, then special_tokens_map.json, then added tokens of
    the usual names. A document ends with eos, or [SEP]. What a decoder reads first, "bos", is the model's
    `decoder_start_token_id`, or else the bos or [CLS], or else the pad (T5). A vocabulary without a pad (GPT-2, Llama)
    pads with eos, which is harmless: padding has no weight and a segment of its own. "sentinels" are T5's
    `<extra_id_0>`, `<extra_id_1>`, ... where their ids descend by one.

    Args:
      name: what messages call the tokenizer.
      files: tokenizer_config.json, special_tokens_map.json and config.json, those that there are.
      added: the special added tokens of tokenizer.json.
      token_to_id: id of any token.

    Raises:
      UserError: no token ends a document; a file is not JSON, or names a token that is not in the vocabulary.
    """
    configs = [(file, _fields(name, file, files)) for file in (TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP)]
    special: dict[str, Any] = {}
    for role in _FIELDS:
        named = [_named(name, file, fields, role, token_to_id) for file, fields in configs]
        usual = [added.get(token) for token in _NAMES[role]]
        special[role] = next((index for index in (*named, *usual) if index is not None), None)
    if special["eos"] is None:
        raise UserError(
            f'{name}: no token ends a document: name one as "eos_token" in a {TOKENIZER_CONFIG} beside tokenizer.json'
        )
    if special["pad"] is None:
        special["pad"] = special["eos"]
    config = _fields(name, MODEL_CONFIG, files)
    sides = (config, config.get("decoder"))  # T5Gemma's config.json has one inside for each side.
    starts = [side.get("decoder_start_token_id") for side in sides if isinstance(side, Mapping)]
    start = next((index for index in starts if isinstance(index, int)), None)
    special["bos"] = next(index for index in (start, special["bos"], special["pad"]) if index is not None)
    return {**special, **_sentinels(added)}


def special_texts(name: str, files: Mapping[str, bytes]) -> dict[str, str]:
    """Returns the texts of a tokenizer's special tokens by the fields that name them, as "bos_token"."""
    config = {**_fields(name, SPECIAL_TOKENS_MAP, files), **_fields(name, TOKENIZER_CONFIG, files)}
    tokens = {field: config.get(field) for field in config if field.endswith("_token")}
    texts = {field: token.get("content") if isinstance(token, dict) else token for field, token in tokens.items()}
    return {field: text for field, text in texts.items() if isinstance(text, str)}


def chat_template(name: str, files: Mapping[str, bytes]) -> str | None:
    """Returns a tokenizer's chat template; None where it has none.

    Newer versions of transformers write the template to a file of its own, older ones into tokenizer_config.json, where
    there may be several by name: the one called "default" is for conversations.

    Raises:
      UserError: it is no text.
    """
    source = _fields(name, TOKENIZER_CONFIG, files).get("chat_template")
    if CHAT_TEMPLATE in files:
        try:
            source = files[CHAT_TEMPLATE].decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{name}: its {CHAT_TEMPLATE} is not UTF-8: {error.reason}") from None
    if isinstance(source, list):
        named = {one.get("name"): one.get("template") for one in source if isinstance(one, dict)}
        source = named.get("default")
    if source is None:
        return None
    if not isinstance(source, str):
        raise UserError(f'{name}: its {TOKENIZER_CONFIG}: "chat_template" is {type(source).__name__}, expected a text')
    return source


def own_special(special: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Returns what `Vocabulary.special` says of ids below `size`."""

    def is_own(value: Any) -> bool:
        if isinstance(value, Mapping):
            return all(index < size for index in value.values())
        return (value[0] if isinstance(value, list) else value) < size

    return {role: value for role, value in special.items() if value is not None and is_own(value)}


def _fields(name: str, file: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    if file not in files:
        return {}
    where = f"{name}: its {file}"
    return schema.check(schema.parse(files[file], where), MapOf(Anything()), where)


def _named(
    name: str, file: str, fields: Mapping[str, Any], role: str, token_to_id: Callable[[str], int | None]
) -> int | None:
    for field in _FIELDS[role]:
        token = fields.get(field)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            index = token_to_id(token)
            if index is None:
                raise UserError(f"{name}: its {file} names {token!r} as {field}, which is not in tokenizer.json")
            return index
    return None


def _sentinels(added: Mapping[str, int]) -> dict[str, list[int]]:
    first = added.get("<extra_id_0>")
    if first is None:
        return {}
    count = 1
    while added.get(f"<extra_id_{count}>") == first - count:
        count += 1
    return {"sentinels": [first, count]}

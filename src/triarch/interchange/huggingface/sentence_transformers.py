"""Folders of sentence-transformers: what they say beside the network: pooling, normalisation, prompts, lengths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from triarch import schema
from triarch.errors import UserError, nearest
from triarch.interchange.embedder import SIMILARITIES, Embedder
from triarch.models.pooling import Pooling
from triarch.schema import Anything, Flag, Items, MapOf, OrNull, Record, Text, Whole

MODULES = "modules.json"
_PLACES = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
_SETTINGS = "config_sentence_transformers.json"
_TRANSFORMER = "sentence_bert_config.json"
_TOKENIZER = "tokenizer_config.json"
_POOLINGS: dict[str, Pooling] = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
# What older folders say in place of "pooling_mode": a flag each.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Tokenizers write numbers of thirty digits where they know no length.
_MOST_LENGTH = 10**7

_MODULES_SCHEMA = Items(Record({"path": Text(), "type": Text()}, others=True), most=64)
_POOLING_SCHEMA = Record(
    {"pooling_mode": OrNull(Anything()), "include_prompt": OrNull(Flag())}
    | {flag: OrNull(Flag()) for flag in _POOLING_FLAGS},
    others=True,
)
_SETTINGS_SCHEMA = Record(
    {
        "prompts": OrNull(MapOf(OrNull(Text()))),
        "default_prompt_name": OrNull(Text()),
        "similarity_fn_name": OrNull(Text()),
        "truncate_dim": OrNull(Whole(1)),
    },
    others=True,
)
_TRANSFORMER_SCHEMA = Record(
    {"max_seq_length": OrNull(Whole(1)), "do_lower_case": OrNull(Flag()), "transformer_task": OrNull(Text())},
    others=True,
)


def read_embedder(folder: Path) -> Embedder | None:
    """Returns how a folder of sentence-transformers makes vectors of texts; None of another folder.

    Raises:
      UserError: it has modules, a pooling or another setting that has no equivalent here, or a file is damaged.
    """
    path = folder / MODULES
    if not path.exists():
        return None
    modules = {one["type"].rsplit(".", 1)[-1]: one["path"] for one in schema.read(path, _MODULES_SCHEMA, home=folder)}
    for kind, place in modules.items():
        if kind not in _PLACES:
            raise UserError(f"{path}: the module {kind} has no equivalent here: known are {', '.join(_PLACES)}")
        if kind == "Transformer" and place:
            raise UserError(f"{path}: its Transformer lies in {place!r}, expected it in the folder itself")
    if list(modules) not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise UserError(f"{path}: its modules are {', '.join(modules)}: expected {', '.join(_PLACES)}")
    pooling, counts_prompt = _pooling(folder, modules["Pooling"])
    said = _read(folder, _SETTINGS, _SETTINGS_SCHEMA)
    if said.get("truncate_dim"):
        raise UserError(f"{folder / _SETTINGS}: truncate_dim has no equivalent here: vectors keep all dimensions")
    similarity = said.get("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        near = nearest(similarity, SIMILARITIES)
        raise UserError(f"{folder / _SETTINGS}: similarity_fn_name = {similarity!r} has no equivalent here{near}")
    return Embedder(
        pooling=pooling,
        normalize="Normalize" in modules,
        similarity=similarity,
        prompts={name: text for name, text in (said.get("prompts") or {}).items() if text},
        default_prompt=_default_prompt(said),
        counts_prompt=counts_prompt,
        max_length=_max_length(folder),
    ).checked(str(folder / _SETTINGS))


def embedder_files(embedder: Embedder, d_model: int) -> dict[str, str]:
    """Returns the files that make a Hugging Face folder of a body one of sentence-transformers, by their names.

    They are in the form that versions from 2 to 6 read. The length is for `tokenizer_config.json` as well; see
    `with_length`.
    """
    kinds = list(_PLACES) if embedder.normalize else ["Transformer", "Pooling"]
    modules = [
        {"idx": index, "name": str(index), "path": _PLACES[kind], "type": f"sentence_transformers.models.{kind}"}
        for index, kind in enumerate(kinds)
    ]
    name = next(name for name, ours in _POOLINGS.items() if ours == embedder.pooling)
    pooling = {"word_embedding_dimension": d_model, "include_prompt": embedder.counts_prompt}
    pooling |= {flag: mode == name for flag, mode in _POOLING_FLAGS.items()}
    settings = {
        "prompts": dict(embedder.prompts),
        "default_prompt_name": embedder.default_prompt,
        "similarity_fn_name": embedder.similarity,
    }
    files: dict[str, Any] = {
        MODULES: modules,
        _SETTINGS: settings,
        _TRANSFORMER: {"max_seq_length": embedder.max_length, "do_lower_case": False},
        "1_Pooling/config.json": pooling,
    }
    if embedder.normalize:
        files["2_Normalize/config.json"] = {}
    return {path: json.dumps(value, indent=2) + "\n" for path, value in files.items()}


def _pooling(folder: Path, place: str) -> tuple[Pooling, bool]:
    name = f"{place}/config.json"
    fields = _read(folder, name, _POOLING_SCHEMA, is_needed=True)
    modes: Any = fields.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if fields.get(flag)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in _POOLINGS:
        told = " + ".join(map(str, modes)) if isinstance(modes, list) else str(modes)
        known = ", ".join(_POOLINGS)
        raise UserError(f"{folder / name}: the pooling {told} has no equivalent here: known are {known}, one at a time")
    return _POOLINGS[modes[0]], fields.get("include_prompt") is not False


def _default_prompt(said: Mapping[str, Any]) -> str | None:
    name = said.get("default_prompt_name")
    # One that is empty is none.
    return name if (said.get("prompts") or {}).get(name, name) else None


def _max_length(folder: Path) -> int | None:
    fields = _read(folder, _TRANSFORMER, _TRANSFORMER_SCHEMA)
    if fields.get("do_lower_case"):
        raise UserError(f"{folder / _TRANSFORMER}: do_lower_case has no equivalent here: the tokenizer may lower cases")
    task = fields.get("transformer_task") or "feature-extraction"
    if task != "feature-extraction":
        raise UserError(f"{folder / _TRANSFORMER}: transformer_task = {task!r}: expected feature-extraction")
    said = fields.get("max_seq_length")
    if said is None:
        said = _read(folder, _TOKENIZER, Record({}, others=True)).get("model_max_length")
    is_length = isinstance(said, int) and not isinstance(said, bool) and 0 < said < _MOST_LENGTH
    return cast(int, said) if is_length else None


def _read(folder: Path, name: str, kind: Record, is_needed: bool = False) -> Mapping[str, Any]:
    try:
        return schema.read(folder / name, kind, home=folder)
    except (FileNotFoundError, NotADirectoryError):
        if is_needed:
            raise UserError(f"{folder / name}: is missing, and {MODULES} names it") from None
        return {}

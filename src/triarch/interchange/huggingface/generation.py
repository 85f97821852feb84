"""What a Hugging Face folder says of how its model generates: generation_config.json, or else config.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triarch import schema
from triarch.errors import UserError
from triarch.files import check_regular
from triarch.interchange.huggingface.families import FAMILIES
from triarch.interchange.huggingface.family import Family
from triarch.interchange.manifest import Origin
from triarch.models import ModelConfig
from triarch.schema import Anything, MapOf

GENERATION_CONFIG = "generation_config.json"
_ENDS, _START = "eos_token_id", "decoder_start_token_id"
_FORCED, _FORCED_END = "forced_bos_token_id", "forced_eos_token_id"


@dataclasses.dataclass(frozen=True)
class Generation:
    """How `generate` of transformers begins and ends a text.

    Attributes:
      decoder_start: what a decoder behind an encoder reads first; None if nothing is said.
      forced_first: what such a decoder writes first, whatever the logits are; None for the likeliest.
      forced_last: what a text that is as long as it may be ends with, likewise; of several the one with the lowest id,
        as the likeliest of equals is.
      ends: the ids that each end a text.
      bidirectional_prompt: whether a decoder-only model reads its prompt in both directions (triarch's own classes).
    """

    decoder_start: int | None = None
    forced_first: int | None = None
    forced_last: int | None = None
    ends: tuple[int, ...] = ()
    bidirectional_prompt: bool = False

    @classmethod
    def of(cls, origin: Origin) -> Generation:
        """Returns what was said where parameters come from, even if they were trained since; nothing of other ones."""
        said = origin.imported or {}
        return cls.from_fields(said.get("config", {}), said.get("generation_config"))

    @classmethod
    def from_fields(cls, config: Mapping[str, Any], generation: Mapping[str, Any] | None) -> Generation:
        """Returns what the two files say; `generation` is None where there is no generation_config.json."""
        fields = _from_config(config) if generation is None else generation
        start, forced = (fields.get(key) for key in (_START, _FORCED))
        start = fields.get("bos_token_id") if start is None else start
        return cls(
            decoder_start=start if _is_whole(start) else None,
            forced_first=forced if _is_whole(forced) else None,
            forced_last=min(filter(_is_whole, _as_tuple(fields.get(_FORCED_END))), default=None),
            ends=tuple(filter(_is_whole, _as_tuple(fields.get(_ENDS)))),
            bidirectional_prompt=config.get("bidirectional_prompt") is True,
        )


def read_generation_config(
    folder: Path, config: Mapping[str, Any], family: Family, network: ModelConfig
) -> dict[str, Any] | None:
    """Returns a folder's generation_config.json, None if there is none, after checking the ids that are used.

    Args:
      folder: the Hugging Face folder.
      config: its config.json, which says the same where there is no such file.
      family: its class.
      network: that it describes. An end that is not in its vocabulary is as good as none.

    Raises:
      UserError: it is not a JSON object, or what should be an id is not one.
    """
    path = folder / GENERATION_CONFIG
    fields = None
    if path.exists():
        check_regular(path, folder)
        fields = schema.read(path, MapOf(Anything()))
    files = {folder / "config.json": {**_from_config(config), _START: family.labels_start(config)}}
    files |= {} if fields is None else {path: fields}
    for where, said in files.items():
        for key in (_START, _FORCED) if network.architecture == "encoder-decoder" else ():
            value, most = said.get(key), network.vocab_size - 1
            if value is not None and not (_is_whole(value) and 0 <= value <= most):
                raise UserError(f"{where}: {key} = {value!r}: expected a token id, 0 to {most}")
        for key in (_ENDS, _FORCED_END):
            ends = said.get(key)
            if not all(map(_is_whole, _as_tuple(ends))):
                raise UserError(f"{where}: {key} = {ends!r}: expected a token id, or a list of them")
    return fields


def labels_start(origin: Origin) -> int | None:
    """Returns what an imported decoder reads before its first target: what transformers puts there; None if unknown."""
    said = origin.imported if origin.is_imported else None
    if said is None:
        return None
    family = next((one for one in FAMILIES.values() if one.class_name == said["huggingface"]), None)
    return None if family is None else family.labels_start(said["config"])


def _from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    decoder = config.get("decoder")
    given = {key: value for key, value in config.items() if value is not None}
    return {**decoder, **given} if isinstance(decoder, Mapping) else given


def _as_tuple(ends: Any) -> tuple[int, ...]:
    if ends is None:
        return ()
    return tuple(ends) if isinstance(ends, list) else (ends,)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

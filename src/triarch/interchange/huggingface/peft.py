"""LoRA adapters in and out as peft has them: adapter_config.json and adapter_model.safetensors, without peft.

A and B of a module are `base_model.model.MODULE.lora_A.weight` [rank, inputs] and `lora_B.weight` [outputs, rank].
Where a class joins several of our kernels in one matrix, their adapters become one of their ranks' sum: the inputs'
matrices side by side, and each of the outputs' in the rows and columns that are its own.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors
import safetensors.numpy

from triarch import schema
from triarch.errors import UserError, brief
from triarch.files import check_regular
from triarch.interchange.folders import whole_folder
from triarch.interchange.huggingface.exporting import choose_family
from triarch.interchange.huggingface.families import own
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.table import Link, links
from triarch.interchange.manifest import is_export, read_manifest
from triarch.interchange.streamed import StoredModel
from triarch.models.kinds import LAYERS
from triarch.models.network import specs
from triarch.schema import Anything, MapOf

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Of the base, in the header of the tensors: peft passes over it.
_BASE = "triarch_base"
_PREFIX, _WEIGHT = "base_model.model.", ".weight"
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_TASKS = {"decoder-only": "CAUSAL_LM", "encoder-decoder": "SEQ_2_SEQ_LM"}
# Options of peft's that change what an adapter computes, with the values by which they do not.
_PLAIN = {
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "megatron_config": (None,),
    "layer_replication": (None,),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None,),
}


class Adapters(Protocol):
    """Adapters of a stored base.

    Attributes:
      base: what they go with.
      rank: width of x A.
      alpha: the update's factor is alpha / rank.
      dropout: rate of what they leave out in training.
      updates: A and B of each adapted kernel, [..., inputs, rank] and [..., rank, outputs].
    """

    @property
    def base(self) -> StoredModel: ...

    @property
    def rank(self) -> int: ...

    @property
    def alpha(self) -> float: ...

    @property
    def dropout(self) -> float: ...

    @property
    def updates(self) -> Mapping[str, tuple[np.ndarray, np.ndarray]]: ...


def write_peft(adapters: Adapters, output: Path, overwrite: bool = False) -> tuple[str, int]:
    """Writes adapters for the class that the base is written as by `--format=huggingface`.

    Args:
      adapters: to write.
      output: folder to make; it appears only when it is whole.
      overwrite: replace an adapter folder that is there.

    Returns:
      The class's name, and the number of modules.

    Raises:
      UserError: the base has no class of transformers, an adapted kernel is no module of it, or `output` exists.
    """
    base = adapters.base
    family = choose_family(base)
    if family is own.FAMILY:
        raise UserError(f"{base.path}: no class of transformers expresses its network: say --merge_adapter instead")
    tensors: dict[str, np.ndarray] = {}
    ranks: dict[str, int] = {}
    for link in links(base.config, family.rules(base.config), family.class_name):
        found = _of_link(link, adapters)
        if found is not None:
            module = link.theirs.removesuffix(_WEIGHT)
            tensors |= {f"{_PREFIX}{module}{_DOWN}": found[0], f"{_PREFIX}{module}{_UP}": found[1]}
            ranks[module] = found[0].shape[0]
    fields = _config(adapters, family, ranks)
    with whole_folder(output, overwrite, is_peft) as folder:
        safetensors.numpy.save_file(tensors, folder / WEIGHTS, {"format": "pt", **_told_base(base)})
        (folder / CONFIG).write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return family.class_name, len(ranks)


def is_peft(folder: Path) -> bool:
    """Whether a folder holds adapters as peft has them."""
    return (folder / CONFIG).is_file()


def _of_link(link: Link, adapters: Adapters) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns A and B of a module in peft's layout; None if it has none."""
    adapted = [index for index, slot in enumerate(link.slots) if slot.leaf in adapters.updates]
    if not adapted:
        return None
    if link.has_experts or not link.theirs.endswith(_WEIGHT):
        name = link.slots[adapted[0]].leaf
        raise UserError(f"{name}: peft has no adapter of {link.theirs}: leave it out, or say --merge_adapter instead")
    downs, rank = [], adapters.rank
    pieces = [np.zeros((len(adapted) * rank, slot.shape[-1]), np.float32) for slot in link.slots]
    for number, index in enumerate(adapted):
        slot = link.slots[index]
        down, up = (x if slot.row is None else x[slot.row] for x in adapters.updates[slot.leaf])
        downs.append(down)
        pieces[index][number * rank : (number + 1) * rank] = up
    up = link.joined(pieces)
    return np.ascontiguousarray(np.concatenate(downs, 1).T), np.ascontiguousarray(up if link.rule.transposed else up.T)


def _config(adapters: Adapters, family: Family, ranks: Mapping[str, int]) -> dict[str, Any]:
    base, scale = adapters.base, adapters.alpha / adapters.rank
    other = {module: rank for module, rank in ranks.items() if rank != adapters.rank}
    found = links(base.config, family.rules(base.config), family.class_name)
    untransposed = {link.theirs.removesuffix(_WEIGHT) for link in found if not link.rule.transposed}
    imported = (base.origin.source or {}).get("folder")
    return {
        "peft_type": "LORA",
        "task_type": _TASKS.get(base.config.architecture),
        "base_model_name_or_path": imported if isinstance(imported, str) else base.path.name,
        "r": adapters.rank,
        "lora_alpha": adapters.alpha,
        "lora_dropout": adapters.dropout,
        "rank_pattern": {re.escape(module): rank for module, rank in other.items()},
        "alpha_pattern": {re.escape(module): scale * rank for module, rank in other.items()},
        "target_modules": sorted(ranks),
        "fan_in_fan_out": any(module in untransposed for module in ranks),
        "bias": "none",
        "inference_mode": True,
    }


def _told_base(base: StoredModel) -> dict[str, str]:
    """Returns which parameters adapters go with, where the base is an export, whose fingerprint others can have."""
    return {_BASE: read_manifest(base.path).fingerprint} if is_export(base.path) else {}


@dataclasses.dataclass(frozen=True)
class Update:
    """What an adapter adds to one kernel, or one layer's row of a stacked one: scale * down @ up."""

    down: np.ndarray
    up: np.ndarray
    scale: float

    @property
    def values(self) -> np.ndarray:
        return np.float32(self.scale) * (self.down @ self.up)


# By the name of a parameter, and its row.
Updates = Mapping[str, Mapping[int | None, Update]]


def read_peft(folder: Path, base: StoredModel) -> Updates:
    """Reads adapters that go with a base.

    Raises:
      UserError: the folder holds none, or adapters of another kind or with options that have no equivalent; they are
        those of another base: a module is not there, or has other widths, or the base's fingerprint is another.
    """
    fields = _read_config(folder)
    tensors, told = _read_tensors(folder)
    if is_export(base.path) and told not in (None, read_manifest(base.path).fingerprint):
        raise UserError(f"{folder}: its adapters go with other parameters than those of {base.path}")
    family = choose_family(base)
    updates: dict[str, dict[int | None, Update]] = {}
    for link in links(base.config, family.rules(base.config), family.class_name):
        module = link.theirs.removesuffix(_WEIGHT)
        names = (f"{_PREFIX}{module}", f"{_PREFIX}{module.removeprefix(family.prefix)}")
        name = next((name for name in names if f"{name}{_DOWN}" in tensors and f"{name}{_UP}" in tensors), None)
        if name is None or link.has_experts:
            continue
        down, up = tensors.pop(f"{name}{_DOWN}"), tensors.pop(f"{name}{_UP}")
        _check_widths(folder, module, link, down, up)
        scale = _scale(fields, name.removeprefix(_PREFIX), len(down), str(folder / CONFIG))
        for slot, piece in zip(link.slots, _pieces(link, up), strict=True):
            updates.setdefault(slot.leaf, {})[slot.row] = Update(np.ascontiguousarray(down.T), piece, scale)
    if tensors:
        name = min(tensors)
        raise UserError(
            f"{folder / WEIGHTS}: {name!r} {list(tensors[name].shape)} has no place in the {family.class_name} of "
            f"{base.path}: is the adapter that of another base?"
        )
    return updates


def summed(leaf: Any, rows: Mapping[int | None, Update]) -> Iterator[np.ndarray]:
    """Yields a stored parameter with what adapters add to it, part by part, float32."""
    start = 0
    for part in leaf.parts():
        values = part.astype(np.float32)
        if None in rows:
            update = rows[None]
            values += np.float32(update.scale) * (update.down[start : start + len(part)] @ update.up)
        for row in range(start, start + len(part)):
            if row in rows:
                values[row - start] += rows[row].values
        start += len(part)
        yield values


def _pieces(link: Link, up: np.ndarray) -> list[np.ndarray]:
    """Returns what a module's B, [outputs, rank], holds of each of our kernels, [rank, outputs]."""
    slots = tuple(dataclasses.replace(slot, shape=(up.shape[1], slot.shape[-1])) for slot in link.slots)
    theirs, small = up if link.rule.transposed else up.T, dataclasses.replace(link, slots=slots)
    return [np.ascontiguousarray(small.piece(theirs, index)) for index in range(len(slots))]


def _check_widths(folder: Path, module: str, link: Link, down: np.ndarray, up: np.ndarray) -> None:
    inputs, outputs = link.slots[0].shape[0], sum(slot.shape[-1] for slot in link.slots)
    fits = down.ndim == up.ndim == 2 and down.shape[1] == inputs and up.shape == (outputs, down.shape[0])
    if not fits or len(down) < 1 or len(link.slots[0].shape) != 2:
        shapes = f"{list(down.shape)} and {list(up.shape)}, the base makes them [rank, {inputs}] and [{outputs}, rank]"
        raise UserError(f"{folder / WEIGHTS}: adapters of {module!r} are {shapes}: is it that of another base?")


def _scale(fields: Mapping[str, Any], module: str, rank: int, where: str) -> float:
    alpha = fields.get("lora_alpha", 8)
    for pattern, given in (fields.get("alpha_pattern") or {}).items():
        if _is_named(pattern, module):
            alpha = given
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise UserError(f"{where}: lora_alpha = {alpha!r}: expected a number")
    return alpha / math.sqrt(rank) if fields.get("use_rslora") else alpha / rank


def _is_named(pattern: str, module: str) -> bool:
    """Whether a pattern of peft's is of a module: a name, or the end of one. Others, of a language, are not tried."""
    plain = re.sub(r"\\(.)", r"\1", pattern)
    return module == plain or module.endswith(f".{plain}")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        check_regular(path, folder)
        fields = schema.read(path, MapOf(Anything()))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: holds no adapter: there is no {CONFIG}") from None
    if fields.get("peft_type") != "LORA":
        raise UserError(f"{path}: peft_type = {fields.get('peft_type')!r}: expected 'LORA'")
    for option, plain in _PLAIN.items():
        if fields.get(option, plain[0]) not in plain:
            raise UserError(f"{path}: {option} = {brief(fields[option])} has no equivalent here")
    patterns = fields.get("alpha_pattern")
    if patterns is not None and not isinstance(patterns, Mapping):
        raise UserError(f"{path}: alpha_pattern: expected numbers by name")
    return fields


def _read_tensors(folder: Path) -> tuple[dict[str, np.ndarray], str | None]:
    """Returns the tensors in float32, and the fingerprint of the base that they say, if they do."""
    path = folder / WEIGHTS
    pickles: Sequence[Path] = sorted(folder.glob("*.bin"))
    if not path.exists():
        more = f"; {pickles[0].name} is a pickle, which is never read" if pickles else ""
        raise UserError(f"{folder}: holds no {WEIGHTS}{more}")
    try:
        check_regular(path, folder)
        with safetensors.safe_open(path, framework="np", backend="pread") as opened:
            told = (opened.metadata() or {}).get(_BASE)
            tensors = {name: opened.get_tensor(name).astype(np.float32) for name in opened.offset_keys()}
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: cut short, or not a safetensors file: {brief(error)}") from None
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise UserError(f"{path}: tensor {name!r} holds infinite or NaN values")
    return tensors, told


def is_stacked(base: StoredModel, name: str) -> bool:
    """Whether a parameter holds those of repeated layers along its first axis."""
    return specs(base.config)[name].axes[:1] == (LAYERS,)

"""From a run or an export of ours to a Hugging Face folder, tensor by tensor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triarch.errors import UserError, nearest
from triarch.files import regular_files
from triarch.interchange.export import CARD
from triarch.interchange.folders import whole_folder
from triarch.interchange.huggingface.expressible import differences
from triarch.interchange.huggingface.families import FAMILIES, own
from triarch.interchange.huggingface.family import Family, special_ids
from triarch.interchange.huggingface.generation import GENERATION_CONFIG, Generation
from triarch.interchange.huggingface.importing import CONFIG
from triarch.interchange.huggingface.table import Link, Slot, links
from triarch.interchange.huggingface.variants import exported
from triarch.interchange.huggingface.writer import Planned, write_tensors
from triarch.interchange.model_card import Usage, model_card
from triarch.interchange.orbax_folder import DTYPES
from triarch.interchange.streamed import StoredModel
from triarch.models.network import Specs, specs
from triarch.objectives import learns_labels

MAX_SHARD_BYTES = 5 * 10**9
_MODELLING = Path(__file__).parent / "modelling"
# What triarch calls any SentencePiece model (`triarch.tokenizers`).
_OUR_MODEL = "sentencepiece.model"
# Of an imported config.json: keys whose place has changed between versions, what is written says it all; and files that
# the folder does not have.
_SUPERSEDED = ("rope_theta", "rope_scaling", "torch_dtype", "partial_rotary_factor", "auto_map", "transformers_weights")


def choose_family(model: StoredModel, name: str | None = None) -> Family:
    """Returns the family that a network is to be written as.

    Args:
      model: the network.
      name: of a family; None for the one it was imported from if it is still that, else the first class that
        expresses the network, else triarch's own layout.

    Raises:
      UserError: there is no such family, or its class cannot express the network (each option in the way is named).
    """
    config = model.config
    if model.origin.headless is not None:
        return _headless_family(model, name)
    if name is None:
        imported = (model.origin.imported or {}).get("huggingface")
        order = sorted(FAMILIES.values(), key=lambda family: family.class_name != imported)
        return next(family for family in order if family is own.FAMILY or not differences(config, family))
    if name not in FAMILIES:
        raise UserError(f"--family={name}: no such family{nearest(name, FAMILIES)}")
    family = FAMILIES[name]
    found = differences(config, family)
    if found:
        listed = "; ".join(found)
        raise UserError(f"{model.path}: {family.class_name} has no equivalent for this network's {listed}")
    return family


def _headless_family(model: StoredModel, name: str | None) -> Family:
    """Returns the class of a classifier, or of a network without a head; see `choose_family`."""
    if name is not None and name not in FAMILIES:
        raise UserError(f"--family={name}: no such family{nearest(name, FAMILIES)}")
    said = (model.origin.imported or {}).get("huggingface")
    asked = FAMILIES.values() if name is None else [FAMILIES[name]]
    found = [variant for family in asked if (variant := exported(family, model)) is not None]
    found.sort(key=lambda family: said not in (family.class_name, *family.relatives))
    for family in found:
        if not differences(family.reduced(model.config), family):
            return family
    if not learns_labels(model.origin.objective) and name in (None, own.FAMILY.name):
        return own.FAMILY
    reasons = differences(found[0].reduced(model.config), found[0]) if len(found) == 1 else []
    listed = f": {found[0].class_name} has no equivalent for its {'; '.join(reasons)}" if reasons else ""
    where = "transformers" if name is None else f"the family {name}"
    raise UserError(
        f"{model.path}: no class of {where} has this network with this head and pooling{listed} (--format=orbax writes "
        "every one)"
    )


def write_huggingface(
    model: StoredModel,
    output: Path,
    family: Family,
    *,
    dtype: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    tokenizer: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda num_bytes: None,
) -> None:
    """Writes config.json, generation_config.json where there is a decoder, safetensors, tokenizer and model card.

    Args:
      model: the network.
      output: folder to make; it appears only when it is whole.
      family: from `choose_family`.
      dtype: type to store tensors in; None keeps each in the type it has.
      max_shard_bytes: of one safetensors file.
      tokenizer: contents of further files, or others in place of the vocabulary's, by name, which may be in a folder.
      overwrite: replace a Hugging Face folder that is there.
      advance: told of the bytes of each tensor that was written.

    Raises:
      UserError: `output` exists or cannot be written, the type is unknown or cannot hold the values, or a parameter
        cannot be read.
    """
    found = _links(model, family)
    plan = _plan(model, family, found, dtype)
    with whole_folder(output, overwrite, _is_huggingface) as folder:
        write_tensors(folder, plan, _tensors(model, family, found, plan, advance), max_shard_bytes)
        for path in _vocabulary_files(model):
            shutil.copyfile(path, folder / path.name)
        for name, content in (tokenizer or {}).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        (folder / CARD).write_text(model_card(model.config, model.origin, _usage(family)), encoding="utf-8")
        for name in family.code:
            shutil.copyfile(_MODELLING / name, folder / name)
        for name, fields in _descriptions(model, family, plan).items():
            (folder / name).write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _usage(family: Family) -> Usage:
    """Returns how a folder of a class is loaded."""
    if family is own.FAMILY:
        taken = '# triarch import "this folder" --output=exports/mine'
        return Usage("triarch", f'{taken}\nimport triarch\n\nmodel = triarch.load("exports/mine")', own.LAYOUT)
    if not family.code:
        name = family.class_name
        return Usage(
            "transformers", f'from transformers import {name}\n\nmodel = {name}.from_pretrained("this folder")'
        )
    name = family.auto_class
    loaded = f'model = {name}.from_pretrained("this folder", trust_remote_code=True)'
    notes = "transformers has no class for this network: the folder's own, `modeling_triarch.py`, needs no triarch."
    return Usage("transformers", f"from transformers import {name}\n\n{loaded}", notes)


def _vocabulary_files(model: StoredModel) -> list[Path]:
    """Returns the tokenizer's files; of a SentencePiece model under two names, the one it was imported with."""
    folder = model.vocabulary_files
    paths = [path for path in regular_files(folder, folder.parent) if path.parent == folder] if folder else []
    others = [path for path in paths if path.name != _OUR_MODEL]
    return others if any(path.suffix == ".model" for path in others) else paths


def _is_huggingface(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and any(folder.glob("*.safetensors"))


def num_bytes(model: StoredModel, family: Family, dtype: str | None = None) -> int:
    """Returns the bytes of all tensors that `write_huggingface` would write.

    Raises:
      UserError: the type is unknown.
    """
    found = _links(model, family)
    return sum(planned.num_bytes for planned in _plan(model, family, found, dtype))


def _links(model: StoredModel, family: Family) -> list[Link]:
    config = family.reduced(model.config)
    return links(config, family.rules(config), family.class_name, family.make_head)


def _plan(model: StoredModel, family: Family, found: Sequence[Link], dtype: str | None) -> list[Planned]:
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype={dtype}: no type to export{nearest(dtype, DTYPES)}")
    kept = (model.origin.source or {}).get("tensor_types") or {}
    stored = {leaf: model.leaf(leaf).dtype.name for leaf in {slot.leaf for link in found for slot in link.slots}}

    def type_of(link: Link) -> str:
        types = {stored[slot.leaf] for slot in link.slots}
        return dtype or kept.get(link.theirs) or (types.pop() if len(types) == 1 else "float32")

    plan = [Planned(link.theirs, link.shape, type_of(link)) for link in found]
    zeros = family.zeros(family.reduced(model.config)).items()
    return plan + [Planned(name, shape, plan[0].dtype) for name, shape in zeros]


def _tensors(
    model: StoredModel, family: Family, found: Sequence[Link], plan: Sequence[Planned], advance: Callable[[int], None]
) -> Iterator[Iterator[np.ndarray]]:
    """Yields each tensor as blocks of its rows."""
    slots = _SlotReader(model, specs(family.reduced(model.config), family.make_head))

    def blocks(link: Link, dtype: str) -> Iterator[np.ndarray]:
        if link.keeps_rows and link.slots[0].row is None:
            pieces: Iterator[list[np.ndarray]] = ([part] for part in model.leaf(link.slots[0].leaf).parts())
        else:
            pieces = iter([[slots.read(slot) for slot in link.slots]])
        for some in pieces:
            block = link.joined([_cast(piece, dtype, link.theirs) for piece in some])
            yield block
            advance(block.nbytes)

    for link, planned in zip(found, plan, strict=False):
        yield blocks(link, planned.dtype)
    for planned in plan[len(found) :]:
        yield iter([np.zeros(planned.shape, DTYPES[planned.dtype])])


class _SlotReader:
    """Reads slots, those of a stacked parameter in the order of its rows, and within a row of its experts."""

    def __init__(self, model: StoredModel, specs: Specs):
        self._model = model
        self._lengths = {name: spec.shape[0] for name, spec in specs.items()}
        self._rows: dict[str, Iterator[np.ndarray]] = {}
        self._of_experts: dict[str, np.ndarray] = {}

    def read(self, slot: Slot) -> np.ndarray:
        if slot.expert is None:
            return self._row(slot)
        if slot.expert == 0:
            self._of_experts[slot.leaf] = self._row(slot)
        return slot.of_row(self._of_experts[slot.leaf])

    def _row(self, slot: Slot) -> np.ndarray:
        if slot.row is None:
            return np.concatenate(list(self._model.leaf(slot.leaf).parts()))
        if slot.row == 0:
            self._rows[slot.leaf] = (row for part in self._model.leaf(slot.leaf).parts() for row in part)
        row = next(self._rows[slot.leaf])
        if slot.row == self._lengths[slot.leaf] - 1:
            # It may hold the whole parameter.
            del self._rows[slot.leaf]
        return row


def _cast(values: np.ndarray, dtype: str, name: str) -> np.ndarray:
    cast = values.astype(DTYPES[dtype], copy=False)
    if dtype == "float16" and values.dtype != cast.dtype and not np.isfinite(cast).all():
        raise UserError(f"float16 cannot hold the values of tensor {name!r}: use --dtype=bfloat16")
    return cast


def _descriptions(model: StoredModel, family: Family, plan: Sequence[Planned]) -> dict[str, dict[str, Any]]:
    """Returns config.json and generation_config.json: what is so of the model, and whatever else an import said."""
    said = model.origin.imported
    said = said if said is not None and said["huggingface"] in (family.class_name, *family.relatives) else None
    roles = _new_roles(model) if said is None else _changed_roles(model, family, said)
    types = {planned.dtype for planned in plan}
    head: dict[str, Any] = {"model_type": family.model_type, "dtype": types.pop() if len(types) == 1 else "float32"}
    if family is not own.FAMILY:
        head["architectures"] = [family.class_name]
    network = family.reduced(model.config)
    written = _merged(family.write(network), family.special(roles)) | dict(family.labels)
    if family.code and model.config.architecture == "decoder-only":
        written["bidirectional_prompt"] = _reads_both_ways(model)
    kept = {} if said is None else _without(said["config"], _SUPERSEDED)
    config = _merged(kept, written)
    if said is not None and differences(network, family, config):
        # The network was changed since: something that was said of it is no longer so.
        config = _merged({key: value for key, value in kept.items() if key.endswith("_token_id")}, written)
    found = {CONFIG: {**config, **head}}
    if said is None and model.config.num_decoder_layers > 0 and roles:
        found[GENERATION_CONFIG] = special_ids(_without(roles, ("mask",)))
    elif said is not None and said.get("generation_config") is not None:
        found[GENERATION_CONFIG] = {**said["generation_config"], **special_ids(roles)}
    return found


def _new_roles(model: StoredModel) -> dict[str, int]:
    """Returns the special ids of the vocabulary; all objectives have a decoder read bos first."""
    special = (model.origin.vocabulary or {}).get("special") or {}
    roles = {role: special[role] for role in ("pad", "bos", "eos", "mask") if special.get(role) is not None}
    return roles | ({"decoder_start": roles["bos"]} if _is_pair(model) and "bos" in roles else {})


def _changed_roles(model: StoredModel, family: Family, said: Mapping[str, Any]) -> dict[str, int]:
    """Returns the special ids in which a model differs from the import that it began as, or that this did not name."""
    special = _new_roles(model)
    changed = {}
    if _is_pair(model) and (not model.origin.is_imported or family.labels_start(said["config"]) is None):
        changed["decoder_start"] = special.get("decoder_start", model.config.pad_id)
    if not model.origin.is_imported and "eos" in special:
        ends = Generation.of(model.origin).ends + Generation.from_fields(said["config"], None).ends
        changed |= {} if special["eos"] in ends else {"eos": special["eos"]}
    return changed


def _reads_both_ways(model: StoredModel) -> bool:
    """Whether a decoder-only model was trained to read its prompt in both directions."""
    if model.origin.is_imported:
        return Generation.of(model.origin).bidirectional_prompt
    return _says(model.origin.objective, "bidirectional_prefix")


def _says(fields: Any, key: str) -> bool:
    """Whether an objective, or a part of it, has a field that is true."""
    if isinstance(fields, Mapping):
        return fields.get(key) is True or any(_says(value, key) for value in fields.values())
    return isinstance(fields, list | tuple) and any(_says(value, key) for value in fields)


def _is_pair(model: StoredModel) -> bool:
    return model.config.architecture == "encoder-decoder"


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what either says, `second` where both do; the sides of an encoder-decoder likewise."""
    sides = {
        side: {**first[side], **second[side]}
        for side in ("encoder", "decoder")
        if isinstance(first.get(side), Mapping) and isinstance(second.get(side), Mapping)
    }
    return {**first, **second, **sides}


def _without(fields: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in keys}

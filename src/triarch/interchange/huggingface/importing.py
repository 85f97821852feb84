"""From a Hugging Face folder to an export of ours, tensor by tensor."""

from __future__ import annotations

import collections
import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triarch.errors import UserError, nearest
from triarch.interchange.export import VOCABULARY
from triarch.interchange.huggingface.families import FAMILIES
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import Fields, TensorFacts
from triarch.interchange.huggingface.reader import Tensors, open_tensors
from triarch.interchange.huggingface.table import Link, links
from triarch.interchange.manifest import Manifest, Origin
from triarch.interchange.orbax_folder import DTYPES, Leaf
from triarch.interchange.parameters import specs
from triarch.interchange.streamed import write_leaves
from triarch.models import ModelConfig

Advance = Callable[[int], None]
Parts = Callable[[int], Iterator[np.ndarray]]

CONFIG = "config.json"
# What belongs to a tokenizer, or to using the network, and goes along as it is.
CARRIED = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "*.model"),
    *("vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "generation_config.json"),
)


@dataclasses.dataclass(frozen=True)
class Opened:
    """A Hugging Face folder that was found to be whole.

    Attributes:
      folder: it.
      family: its class.
      fields: its config.json.
      config: the network.
      tensors: with the class's own names.
      links: which tensor is which parameter.
      left_out: tensors that are no part of the network.
    """

    folder: Path
    family: Family
    fields: Mapping[str, Any]
    config: ModelConfig
    tensors: Tensors
    links: Sequence[Link]
    left_out: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors that are part of the network."""
        tensors, sizes = self.tensors, (link.theirs for link in self.links)
        return sum(int(np.prod(tensors.entries[name].shape)) * tensors.dtype(name).itemsize for name in sizes)


def open_folder(folder: Path) -> Opened:
    """Reads a folder's config.json and the headers of its tensors, and makes sure that they fit.

    Raises:
      UserError: there is no config.json; its family or an option in use has no equivalent here (named); a tensor is
        missing, is one too many or misshapen (named, with both shapes), or differs from the one it is said to be tied
        to; a file is missing, damaged or a pickle.
    """
    fields = _read_config(folder)
    family = _family(folder, fields)
    tensors, left_out = _without_ignored(open_tensors(folder), family)
    config = _read_network(folder, family, fields, tensors)
    found = links(config, family.rules(config), family.class_name)
    tensors = _with_canonical_names(tensors, family, config, found)
    _check(tensors, family, config, found)
    return Opened(folder, family, fields, config, tensors, found, left_out)


def write_import(
    opened: Opened,
    output: Path,
    *,
    vocabulary: Mapping[str, Any] | None = None,
    fill: Callable[[Path], None] | None = None,
    overwrite: bool = False,
    advance: Advance = lambda num_bytes: None,
) -> Manifest:
    """Writes an export with the parameters of a Hugging Face folder, in the types that they have there.

    Args:
      opened: the folder.
      output: folder to make; it appears only when it is whole.
      vocabulary: of its tokenizer, as in a token store's manifest; None if unknown.
      fill: puts further files into the folder that is being made.
      overwrite: replace an export that is there.
      advance: told of the bytes of each tensor that was converted.

    Raises:
      UserError: `output` exists or cannot be written, or a tensor cannot be read.
    """
    leaves, kept = make_leaves(opened, advance)
    source = {"huggingface": opened.family.class_name, "folder": opened.folder.absolute().name}
    source |= {"config": opened.fields, "tensor_types": kept, "left_out": list(opened.left_out)}

    def fill_all(making: Path) -> None:
        (making / VOCABULARY).mkdir()
        for path in carried_files(opened.folder):
            shutil.copyfile(path, making / VOCABULARY / path.name)
        if fill is not None:
            fill(making)
        if not any((making / VOCABULARY).iterdir()):
            (making / VOCABULARY).rmdir()

    origin = Origin(objective=opened.family.objective, vocabulary=vocabulary, source=source)
    return write_leaves(output, opened.config, origin, leaves, fill_all, overwrite)


def carried_files(folder: Path) -> list[Path]:
    """Returns a folder's files that go along as they are."""
    return sorted({path for pattern in CARRIED for path in folder.glob(pattern) if path.is_file()})


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        siblings = [sibling.name for sibling in folder.parent.glob("*/") if not sibling.name.startswith(".")]
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder{nearest(folder.name, siblings)}") from None
        raise UserError(f"{folder}: not a Hugging Face model: it holds no {CONFIG}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise UserError(f"{path}: expected an object, found a {type(fields).__name__}")
    return fields


def _family(folder: Path, fields: Mapping[str, Any]) -> Family:
    where, by_type = folder / CONFIG, {family.model_type: family for family in FAMILIES.values()}
    model_type = fields.get("model_type")
    if not isinstance(model_type, str) or model_type not in by_type:
        raise UserError(
            f"{where}: model_type = {model_type!r} is not a family known here{nearest(str(model_type), by_type)}"
        )
    family = by_type[model_type]
    classes = fields.get("architectures") or [family.class_name]
    known = (family.class_name, *family.also)
    if not isinstance(classes, list) or not any(name in known for name in classes):
        raise UserError(f"{where}: architectures = {classes}: of this family, known are {', '.join(known)}")
    for option in ("quantization_config", "per_layer_config"):
        if fields.get(option):
            raise UserError(f"{where}: {option} has no equivalent here: save the model without it")
    return family


def _without_ignored(tensors: Tensors, family: Family) -> tuple[Tensors, tuple[str, ...]]:
    """Takes the old files' names for the new ones, and leaves out what is no part of the network."""
    patterns = [re.compile(pattern) for pattern in family.ignored]
    entries, left_out = {}, []
    for name, entry in tensors.entries.items():
        renamed = name
        for old, new in family.renamed:
            renamed = renamed.removesuffix(old) + new if renamed.endswith(old) else renamed
        if any(pattern.search(renamed) for pattern in patterns):
            left_out.append(name)
        else:
            entries[renamed] = dataclasses.replace(entry, stored_name=name)
    return Tensors(tensors.folder, entries), tuple(sorted(left_out))


def _read_network(folder: Path, family: Family, fields: Mapping[str, Any], tensors: Tensors) -> ModelConfig:
    facts = TensorFacts(
        names=frozenset(tensors.entries),
        equal=lambda first, second: _equal(tensors.read(first), tensors.read(second)),
        is_zero=lambda name: not tensors.read(name).any(),
    )
    where = str(folder / CONFIG)
    try:
        config = family.read(Fields(fields, where, family.class_name, facts))
        config.validate()
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(where) else f"{where}: {text}") from None
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise UserError(f"{where}: an option has a value of the wrong kind: {error}") from None
    return config


def _with_canonical_names(tensors: Tensors, family: Family, config: ModelConfig, found: Sequence[Link]) -> Tensors:
    known = {link.theirs for link in found} | set(family.copies) | set(family.zeros(config))
    return Tensors(
        tensors.folder,
        {
            name if name in known or f"{family.prefix}{name}" not in known else f"{family.prefix}{name}": entry
            for name, entry in tensors.entries.items()
        },
    )


def _check(tensors: Tensors, family: Family, config: ModelConfig, found: Sequence[Link]) -> None:
    """Makes sure that the tensors are those of the class, of the right shapes."""
    where, entries = tensors.folder, tensors.entries
    expected = {link.theirs: link.shape for link in found}
    optional = dict(family.zeros(config))
    optional |= {name: expected.get(to, ()) for name, to in family.copies.items() if name not in expected}
    for name, shape in expected.items():
        if name not in entries:
            raise UserError(f"{where}: tensor {name!r} {list(shape)} is missing")
    for name, entry in entries.items():
        if name not in expected and name not in optional:
            place = f"has no place in the {family.class_name} that its {CONFIG} describes"
            raise UserError(f"{entry.file}: tensor {name!r} {list(entry.shape)} {place}")
        shape = expected.get(name, optional.get(name))
        if entry.shape != shape:
            shapes = f"has shape {list(entry.shape)}, its {CONFIG} makes it {list(shape)}"
            raise UserError(f"{entry.file}: tensor {name!r} {shapes}")
        tensors.dtype(name)
    for name, source in family.copies.items():
        if name in entries and name not in expected and not _equal(tensors.read(name), tensors.read(source)):
            tied = f"should be tied to {source!r} and has other values"
            raise UserError(f"{entries[name].file}: tensor {name!r} {tied}")


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two tensors have the same bits, which numbers that are none do not show by themselves."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return np.array_equal(*(np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (first, second)))


def make_leaves(opened: Opened, advance: Advance) -> tuple[dict[str, Leaf], dict[str, str]]:
    """Returns what makes each parameter, and the types of tensors that are not those of their parameters."""
    sources: dict[str, dict[int, tuple[Link, int]]] = collections.defaultdict(dict)
    for link in opened.links:
        for index, slot in enumerate(link.slots):
            sources[slot.leaf][slot.row or 0] = (link, index)
    shapes = specs(opened.config)
    leaves, kept = {}, {}
    for name, rows in sources.items():
        types = {link.theirs: opened.tensors.dtype(link.theirs) for link, _ in rows.values()}
        # A parameter of several types is kept in one that holds the values of each.
        dtype = next(iter(types.values())) if len(set(types.values())) == 1 else DTYPES["float32"]
        kept |= {theirs: found.name for theirs, found in types.items() if found != dtype}
        stacked = shapes[name].axes[:1] == ("layers",)
        if stacked:
            parts = _layers(opened.tensors, [rows[row] for row in range(len(rows))], dtype, advance)
        else:
            parts = _rows(opened.tensors, *rows[0], dtype, advance)
        leaves[name] = Leaf(shapes[name].shape, dtype, stacked, parts)
    return leaves, kept


def _layers(tensors: Tensors, sources: Sequence[tuple[Link, int]], dtype: np.dtype, advance: Advance) -> Parts:
    """Makes a stacked parameter of each layer's tensor."""

    def parts(rows: int) -> Iterator[np.ndarray]:
        for link, index in sources:
            piece = link.piece(tensors.read(link.theirs), index).astype(dtype, copy=False)
            yield piece[None]
            advance(piece.nbytes)

    return parts


def _rows(tensors: Tensors, link: Link, index: int, dtype: np.dtype, advance: Advance) -> Parts:
    """Makes a parameter of one tensor, some rows at a time where theirs are ours: tables of embeddings are large."""

    def parts(rows: int) -> Iterator[np.ndarray]:
        length = link.slots[index].shape[0]
        step = rows if link.keeps_rows else length
        for start in range(0, length, step):
            piece = link.piece(
                tensors.read(link.theirs, slice(start, start + step) if link.keeps_rows else None), index
            )
            piece = piece.astype(dtype, copy=False)
            yield piece
            advance(piece.nbytes)

    return parts

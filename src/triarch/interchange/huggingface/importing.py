"""From a Hugging Face folder to an export of ours, tensor by tensor."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from triarch import schema
from triarch.errors import UserError, nearest
from triarch.files import check_regular
from triarch.interchange.embedder import EMBEDDER, Embedder
from triarch.interchange.export import VOCABULARY
from triarch.interchange.huggingface.families import FAMILIES
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields, TensorFacts
from triarch.interchange.huggingface.generation import read_generation_config
from triarch.interchange.huggingface.naming import with_prefix, with_tied, without_ignored
from triarch.interchange.huggingface.reader import INDEX, FolderTensors, check_kind, open_tensors
from triarch.interchange.huggingface.sentence_transformers import read_embedder
from triarch.interchange.huggingface.table import Link, links
from triarch.interchange.huggingface.variants import class_names, imported
from triarch.interchange.manifest import ExportManifest, Origin
from triarch.interchange.orbax_folder import DTYPES, Leaf
from triarch.interchange.parameters import check_distinct_layers
from triarch.interchange.streamed import write_leaves
from triarch.models import MakeHead, ModelConfig
from triarch.models.network import specs
from triarch.schema import Items, OrNull, Record, Text

Advance = Callable[[int], None]
Parts = Callable[[int], Iterator[np.ndarray]]

Shapes = Mapping[str, tuple[int, ...]]

CONFIG = "config.json"
_SCHEMA = Record({"architectures": OrNull(Items(Text()))}, others=True)
# By this a config.json asks for Python files of the model's own.
CODE = "auto_map"
# What to look through at a time for numbers that are none.
_BLOCK = 1 << 20
# What belongs to a tokenizer, or to using the network, and goes along as it is.
CARRIED = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "*.model"),
    *("vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja"),
)


class Readable(Protocol):
    """A folder's tensors.

    Attributes:
      entries: by name; each has the `file` that holds it.
    """

    @property
    def entries(self) -> Mapping[str, Any]: ...

    def dtype(self, name: str) -> np.dtype:
        """Returns the type of a tensor."""
        ...

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """Reads a tensor, or some of its rows."""
        ...


class Source(Protocol):
    """What parameters are made of.

    Attributes:
      config: the network.
      tensors: of the folder.
      links: which tensor is which parameter.
    """

    @property
    def config(self) -> ModelConfig: ...

    @property
    def tensors(self) -> Readable: ...

    @property
    def links(self) -> Sequence[Link]: ...


@dataclasses.dataclass(frozen=True)
class OpenedFolder:
    """A Hugging Face folder that was found to be whole.

    Attributes:
      folder: it.
      family: its class.
      fields: its config.json.
      generation: its generation_config.json; None if there is none.
      config: the network.
      tensors: with the class's own names.
      links: which tensor is which parameter.
      left_out: tensors that are no part of the network.
      notes: what else there is and is not read, a line each.
      embedder: how it makes vectors of texts, of a folder of sentence-transformers; None of others.
    """

    folder: Path
    family: Family
    fields: Mapping[str, Any]
    generation: Mapping[str, Any] | None
    config: ModelConfig
    tensors: FolderTensors
    links: Sequence[Link]
    left_out: tuple[str, ...]
    notes: tuple[str, ...] = ()
    embedder: Embedder | None = None

    @property
    def source(self) -> dict[str, Any]:
        """What an export says of where its parameters come from, see `Origin`."""
        names = {"huggingface": self.family.class_name, "folder": self.folder.absolute().name}
        embedder = {} if self.embedder is None else {EMBEDDER: dataclasses.asdict(self.embedder)}
        said = names | {"config": self.fields, "generation_config": self.generation} | embedder
        return said | ({"headless": True} if self.is_headless else {})

    @property
    def is_headless(self) -> bool:
        """Whether the class has nothing that predicts tokens."""
        return self.family.class_name in class_names(self.family)

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors that are part of the network."""
        return network_bytes(self)


def network_bytes(source: Source) -> int:
    """Returns the bytes of all tensors that parameters are made of."""
    tensors, names = source.tensors, (link.theirs for link in source.links)
    return sum(math.prod(tensors.entries[name].shape) * tensors.dtype(name).itemsize for name in names)


def open_folder(folder: Path) -> OpenedFolder:
    """Reads a folder's config.json and the headers of its tensors, and makes sure that they fit.

    Raises:
      UserError: there is no config.json; its family or an option in use has no equivalent here (named); a tensor is
        missing, is one too many or misshapen (named, with both shapes), or differs from the one it is said to be tied
        to; a file is missing, damaged or a pickle, a link out of the folder, or a device, FIFO or socket;
        generation_config.json names no ids.
    """
    fields = _read_config(folder)
    carried_files(folder)
    embedder = read_embedder(folder)
    family, class_name = _family(folder, fields)
    stored = open_tensors(folder, fields.get("transformers_weights"))
    family = imported(family, class_name, fields, stored.entries, str(folder / CONFIG))
    tensors, left_out = without_ignored(stored, family)
    tensors = with_tied(tensors, family)
    config = _read_network(folder, family, fields, tensors)
    bounded = _bounded(config, tensors)
    found = links(bounded, family.rules(bounded), family.class_name, family.make_head)
    zeros = family.zeros(bounded)
    tensors = with_prefix(tensors, family.prefix, {link.theirs for link in found} | set(family.copies) | set(zeros))
    _check(tensors, family, fields, found, zeros)
    assert bounded == config
    generation = read_generation_config(folder, fields, family, config)
    notes = _notes(folder, fields, tensors)
    return OpenedFolder(folder, family, fields, generation, config, tensors, found, left_out, notes, embedder)


def write_import(
    opened: OpenedFolder,
    output: Path,
    *,
    vocabulary: Mapping[str, Any] | None = None,
    fill: Callable[[Path], None] | None = None,
    overwrite: bool = False,
    advance: Advance = lambda num_bytes: None,
) -> ExportManifest:
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
    make_head = opened.family.make_head
    leaves, kept = make_leaves(opened, advance, make_head)
    source = opened.source | {"tensor_types": kept, "left_out": list(opened.left_out)}

    def fill_all(making: Path) -> None:
        (making / VOCABULARY).mkdir()
        for path in carried_files(opened.folder):
            shutil.copyfile(path, making / VOCABULARY / path.name)
        if fill is not None:
            fill(making)
        if not any((making / VOCABULARY).iterdir()):
            (making / VOCABULARY).rmdir()

    origin = Origin(objective=opened.family.objective, vocabulary=vocabulary, source=source)
    return write_leaves(output, opened.config, origin, leaves, fill_all, overwrite, make_head)


def carried_files(folder: Path) -> list[Path]:
    """Returns a folder's files that go along as they are.

    Raises:
      UserError: one is a link out of the folder, or a device, FIFO or socket.
    """
    found = sorted({path for pattern in CARRIED for path in folder.glob(pattern) if path.exists()})
    for path in found:
        check_regular(path, folder)
    return found


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        check_regular(folder / CONFIG, folder)
        return schema.read(folder / CONFIG, _SCHEMA)
    except (FileNotFoundError, NotADirectoryError):
        check_kind(folder)
        siblings = [sibling.name for sibling in folder.parent.glob("*/") if not sibling.name.startswith(".")]
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder{nearest(folder.name, siblings)}") from None
        raise UserError(f"{folder}: not a Hugging Face model: it holds no {CONFIG}") from None


def _family(folder: Path, fields: Mapping[str, Any]) -> tuple[Family, str]:
    """Returns the family of a folder, and which of its classes it is."""
    where, by_type = folder / CONFIG, {family.model_type: family for family in FAMILIES.values()}
    model_type = fields.get("model_type")
    if not isinstance(model_type, str) or model_type not in by_type:
        code = ", and code that comes with a model is never run" if fields.get(CODE) else ""
        read = ", ".join(sorted(by_type))
        raise UserError(f"{where}: model_type = {model_type!r} is not a family that triarch reads ({read}){code}")
    family = by_type[model_type]
    others = class_names(family)
    known = (family.class_name, *family.also, *family.bodies, *others)
    class_name = next((name for name in _classes(fields, family) if name in known), None)
    if class_name is None:
        of_bodies = f" and, if tied to the embedding, {', '.join(family.bodies)}" if family.bodies else ""
        listed = ", ".join((family.class_name, *family.also, *others)) + of_bodies
        raise UserError(f"{where}: architectures = {fields['architectures']}: of this family, known are {listed}")
    for option in ("quantization_config", "per_layer_config"):
        if fields.get(option):
            raise UserError(f"{where}: {option} has no equivalent here: save the model without it")
    return family, class_name


def _classes(fields: Mapping[str, Any], family: Family) -> list[Any]:
    return fields.get("architectures") or [family.class_name]


def _notes(folder: Path, fields: Mapping[str, Any], tensors: FolderTensors) -> tuple[str, ...]:
    notes = []
    if fields.get(CODE):
        notes.append(f"{CONFIG} names code of the model's own ({CODE}): never run, the class is triarch's own")
    if tensors.source.name != INDEX and (folder / INDEX).is_file():
        notes.append(f"{INDEX} is not read, as {tensors.source.name} is there: transformers takes that one too")
    return tuple(notes)


def _read_network(folder: Path, family: Family, fields: Mapping[str, Any], tensors: FolderTensors) -> ModelConfig:
    facts = TensorFacts(
        names=frozenset(tensors.entries),
        equal=lambda first, second: _equal(tensors.read(first), tensors.read(second)),
        is_zero=lambda name: not tensors.read(name).any(),
    )
    where = str(folder / CONFIG)
    try:
        config = family.read(ConfigFields(fields, where, family.class_name, facts))
        config.validate()
        check_distinct_layers(config)
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(where) else f"{where}: {text}") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{where}: an option has a value of the wrong kind: {error}") from None
    return config


def _bounded(config: ModelConfig, tensors: FolderTensors) -> ModelConfig:
    """Returns the network, or where it has more layers than there are tensors for, its first layers that lack one.

    Names have the layer's number between dots: what is found missing takes no longer for a million layers than for ten.
    """
    parts = {part for name in tensors.entries for part in name.split(".")}
    most = 1 + next(number for number in itertools.count() if str(number) not in parts)
    layers: dict[str, Any] = {
        "num_encoder_layers": min(config.num_layers("encoder"), most),
        "num_decoder_layers": min(config.num_layers("decoder"), most),
    }
    return dataclasses.replace(config, **layers)


def _check(
    tensors: FolderTensors, family: Family, fields: Mapping[str, Any], found: Sequence[Link], zeros: Shapes
) -> None:
    """Makes sure that the tensors are those of the class, of the right shapes."""
    entries = tensors.entries
    expected = {link.theirs: link.shape for link in found}
    optional = {**zeros, **{name: expected.get(to, ()) for name, to in family.copies.items() if name not in expected}}
    lent = {id(entries[name]) for name in family.copies if name in entries and name in expected}
    for name, shape in expected.items():
        is_lent = name in family.copies.values() and id(entries.get(name)) in lent
        if name not in entries or is_lent:
            raise UserError(f"{tensors.source}: tensor {name!r} {list(shape)} is missing{_hint(name, family, fields)}")
    for name, entry in entries.items():
        if name not in expected and name not in optional:
            place = f"has no place in the {family.class_name} that its {CONFIG} describes"
            raise UserError(f"{entry.file}: tensor {name!r} {list(entry.shape)} {place}")
        shape = expected[name] if name in expected else optional[name]
        if entry.shape != shape:
            shapes = f"has shape {list(entry.shape)}, its {CONFIG} makes it {list(shape)}"
            raise UserError(f"{entry.file}: tensor {name!r} {shapes}")
        tensors.dtype(name)
    for name, source in family.copies.items():
        if name not in entries or name in expected or entries[name] is entries[source]:
            continue
        if not _equal(tensors.read(name), tensors.read(source)):
            tied = f"should be tied to {source!r} and has other values"
            raise UserError(f"{entries[name].file}: tensor {name!r} {tied}")


def _hint(name: str, family: Family, fields: Mapping[str, Any]) -> str:
    body = next((one for one in _classes(fields, family) if one in family.bodies), None)
    if body is None or name.startswith(family.prefix):
        return ""
    return (
        f": {body} has no output matrix, and its {CONFIG} does not tie one to the embedding (tie_word_embeddings): "
        f"import the {family.class_name} that it is the body of"
    )


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two tensors have the same bits, which numbers that are none do not show by themselves."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    ours, theirs = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (first, second))
    return np.array_equal(ours, theirs)


def make_leaves(
    opened: Source, advance: Advance, make_head: MakeHead | None = None
) -> tuple[dict[str, Leaf], dict[str, str]]:
    """Returns what makes each parameter, and the types of tensors that are not those of their parameters.

    Args:
      opened: what they are made of.
      advance: told of the bytes of each tensor that was converted.
      make_head: makes what there is beside the network; None for nothing.
    """
    sources: dict[str, dict[int, list[tuple[Link, int]]]] = {}
    for link in opened.links:
        for index, slot in enumerate(link.slots):
            sources.setdefault(slot.leaf, {}).setdefault(slot.row or 0, []).append((link, index))
    shapes = specs(opened.config, make_head)
    leaves, kept = {}, {}
    for name, rows in sources.items():
        types = {link.theirs: opened.tensors.dtype(link.theirs) for row in rows.values() for link, _ in row}
        # A parameter of several types is kept in one that holds the values of each.
        dtype = next(iter(types.values())) if len(set(types.values())) == 1 else DTYPES["float32"]
        kept |= {theirs: found.name for theirs, found in types.items() if found != dtype}
        shape, stacked = shapes[name].shape, shapes[name].axes[:1] == ("layers",)
        if stacked:
            parts = _layers(opened.tensors, [rows[row] for row in range(len(rows))], shape, dtype, advance)
        elif rows[0][0][0].has_experts:
            parts = _layers(opened.tensors, [[expert] for expert in rows[0]], shape, dtype, advance)
        else:
            parts = _rows(opened.tensors, *rows[0][0], dtype, advance)
        leaves[name] = Leaf(shape, dtype, stacked, parts)
    return leaves, kept


def _layers(
    tensors: Readable,
    sources: Sequence[Sequence[tuple[Link, int]]],
    shape: tuple[int, ...],
    dtype: np.dtype,
    advance: Advance,
) -> Parts:
    """Makes a parameter of `shape` row by row, each of one tensor, or of as many as the row has experts."""

    def parts(rows: int) -> Iterator[np.ndarray]:
        for source in sources:
            pieces = [link.piece(_read(tensors, link.theirs), i).astype(dtype, copy=False) for link, i in source]
            row = np.stack(pieces) if len(pieces) > 1 else pieces[0]
            yield row.reshape(1, *shape[1:])
            advance(row.nbytes)

    return parts


def _rows(tensors: Readable, link: Link, index: int, dtype: np.dtype, advance: Advance) -> Parts:
    """Makes a parameter of one tensor, some rows at a time where theirs are ours: tables of embeddings are large."""

    def parts(rows: int) -> Iterator[np.ndarray]:
        length = link.slots[index].shape[0]
        step = rows if link.keeps_rows else length
        for start in range(0, length, step):
            tensor = _read(tensors, link.theirs, slice(start, start + step) if link.keeps_rows else None)
            piece = link.piece(tensor, index).astype(dtype, copy=False)
            yield piece
            advance(piece.nbytes)

    return parts


def _read(tensors: Readable, name: str, rows: slice | None = None) -> np.ndarray:
    """Returns a tensor, or some of its rows, of finite numbers."""
    values = tensors.read(name, rows)
    if not _is_finite(values):
        raise UserError(f"{tensors.entries[name].file}: tensor {name!r} holds infinite or NaN values")
    return values


def _is_finite(values: np.ndarray) -> bool:
    """Whether no number is infinite or NaN, as its exponent shows; numpy's own test is slow for types of two bytes."""
    bits = values.reshape(-1).view(f"u{values.itemsize}")
    exponent = np.array(np.inf, values.dtype).view(bits.dtype)
    blocks = (bits[start : start + _BLOCK] for start in range(0, bits.size, _BLOCK))
    return not any(((block & exponent) == exponent).any() for block in blocks)

"""What an export says of itself: `manifest.json`, the file written last and read first."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triarch import schema
from triarch.data.manifest import parse_vocabulary
from triarch.errors import UserError, nearest
from triarch.interchange.parameters import check_distinct_layers
from triarch.models import ModelConfig
from triarch.models.choices import chosen_parts, to_plain
from triarch.objectives import learns_labels
from triarch.schema import Anything, Digest, Items, MapOf, OrNull, Record, Text, Whole

FORMAT = "triarch.export"
VERSION = 1
FILE_NAME = "manifest.json"
# Key of `Origin.source`, and name of a run's file that holds the same.
TUNED_FROM = "tuned_from"
SCAN_AXIS = {"axis": 0, "under": "scanned"}
DTYPES = ("float32", "bfloat16", "float16")
_TENSOR = Record(
    {
        "shape": Items(Whole(), most=8),
        "dtype": Text(DTYPES),
        "axes": Items(OrNull(Text()), most=8),
        "sha256": Digest(),
    }
)
_SCHEMA = Record(
    {
        "config": MapOf(Anything()),
        "objective": OrNull(MapOf(Anything())),
        "vocabulary": OrNull(MapOf(Anything())),
        "step": OrNull(Whole()),
        "source": OrNull(MapOf(Anything())),
        "fingerprint": Digest(),
        "tensors": MapOf(_TENSOR, least=1),
    },
    others=True,
)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One stored parameter.

    Attributes:
      shape: sizes of its dimensions.
      dtype: type it is stored in.
      axes: logical name of each dimension ("layers" is the stacked one).
      sha256: of its values, little-endian, in C order.
    """

    shape: tuple[int, ...]
    dtype: str
    axes: tuple[str | None, ...]
    sha256: str


@dataclasses.dataclass(frozen=True)
class Origin:
    """What an export keeps of where the parameters come from; every part may be unknown (None).

    Attributes:
      objective: what the network was trained with, {"class": name, field: value, ...}.
      vocabulary: kind, size, fingerprint and special tokens, as in a token store's manifest.
      step: updates made.
      source: provenance, free.
    """

    objective: Mapping[str, Any] | None = None
    vocabulary: Mapping[str, Any] | None = None
    step: int | None = None
    source: Mapping[str, Any] | None = None

    @property
    def is_imported(self) -> bool:
        """Whether the parameters are those of a Hugging Face folder, or of a T5X checkpoint, not trained since."""
        return "huggingface" in (self.source or {})

    @property
    def headless(self) -> str | None:
        """Why the network predicts no tokens: it was imported without a head over the vocabulary, or learnt labels.

        None where it does.
        """
        name = (self.objective or {}).get("class")
        if learns_labels(self.objective):
            return f"it was trained to tell labels ({name}), not tokens"
        source = self.source or {}
        if source.get("headless"):
            return f"it was imported from a {source['huggingface']}, which has no head over the vocabulary"
        return None

    @property
    def imported(self) -> Mapping[str, Any] | None:
        """Class ("huggingface"), "config" and "generation_config" of the Hugging Face folder that training began with.

        Of parameters that were not trained since, they are among other facts; None where there is no such folder.
        """
        said = self.source if self.is_imported else (self.source or {}).get(TUNED_FROM)
        is_whole = isinstance(said, Mapping) and "huggingface" in said and isinstance(said.get("config"), Mapping)
        return said if is_whole else None


@dataclasses.dataclass(frozen=True)
class ExportManifest:
    """An export's `manifest.json`.

    Attributes:
      config: the network.
      origin: where its parameters come from.
      tensors: every parameter by name.
    """

    config: ModelConfig
    origin: Origin
    tensors: Mapping[str, Tensor]

    @property
    def fingerprint(self) -> str:
        """sha256 over name, shape, type and sha256 of values of every parameter, sorted by name."""
        lines = [
            f"{name} {list(tensor.shape)} {tensor.dtype} {tensor.sha256}\n"
            for name, tensor in sorted(self.tensors.items())
        ]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def to_json(self) -> str:
        """Returns the text of `manifest.json`: sorted keys, no time stamps, so equal exports have equal bytes."""
        fields = {
            "format": FORMAT,
            "version": VERSION,
            "architecture": self.config.architecture,
            "num_params": self.config.num_params(),
            "config": to_plain(self.config),
            **dataclasses.asdict(self.origin),
            "scan": SCAN_AXIS,
            "fingerprint": self.fingerprint,
            "tensors": {name: dataclasses.asdict(tensor) for name, tensor in self.tensors.items()},
        }
        return json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def is_export(folder: Path) -> bool:
    """Whether `folder` holds an export, whole or damaged."""
    try:
        fields = schema.read(folder / FILE_NAME, Anything())
    except (OSError, UserError):
        return False
    return isinstance(fields, dict) and fields.get("format") == FORMAT


def read_manifest(folder: Path) -> ExportManifest:
    """Reads `folder`/manifest.json.

    Raises:
      UserError: there is no export, or its manifest is of another version, says what cannot be, or does not fit its own
        fingerprint.
    """
    path = folder / FILE_NAME
    try:
        fields = schema.read(path, Anything())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: not an export: it holds no {FILE_NAME}") from None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise UserError(f'{path}: not the manifest of an export: expected "format": "{FORMAT}"')
    if fields.get("version") != VERSION:
        raise UserError(f"{path}: export version {fields.get('version')!r}, this triarch reads version {VERSION}")
    return _manifest(path, schema.check(fields, _SCHEMA, str(path)))


def model_config(fields: Mapping[str, Any], where: str) -> ModelConfig:
    """Returns the network described by a JSON object; fields with a default may be absent.

    Args:
      fields: values by field name; a key "class" is passed over.
      where: what holds them, for the message.

    Raises:
      UserError: a field is unknown, missing or out of range.
    """
    known = {field.name: field for field in dataclasses.fields(ModelConfig)}
    given = {key: value for key, value in fields.items() if key != "class"}
    for key in given:
        if key not in known:
            raise UserError(f"{where}: ModelConfig has no field {key!r}{nearest(key, known)}")
    for name, field in known.items():
        if name not in given and field.default is dataclasses.MISSING:
            raise UserError(f"{where}: ModelConfig.{name} is missing")
    nested = _nested(given, where)
    try:
        config = ModelConfig(**given | nested)
        config.validate()
        check_distinct_layers(config)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except TypeError as error:
        raise UserError(f"{where}: a field of ModelConfig has the wrong type: {error}") from None
    return config


def _nested(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns the fields that JSON has other types for."""
    nested = chosen_parts(given, where)
    scaling, layers = given.get("rope_scaling"), given.get("attention_layers")
    if isinstance(scaling, Mapping):
        nested["rope_scaling"] = {key: value for key, value in scaling.items() if key != "class"}
    if isinstance(layers, list):
        nested["attention_layers"] = tuple(layers)
    return nested


def _manifest(path: Path, fields: Mapping[str, Any]) -> ExportManifest:
    origin = Origin(**{field.name: fields.get(field.name) for field in dataclasses.fields(Origin)})
    if origin.vocabulary is not None:
        parse_vocabulary(origin.vocabulary, f"{path}: vocabulary")
    manifest = ExportManifest(
        config=model_config(fields["config"], str(path)),
        origin=origin,
        tensors={
            name: Tensor(tuple(tensor["shape"]), tensor["dtype"], tuple(tensor["axes"]), tensor["sha256"])
            for name, tensor in fields["tensors"].items()
        },
    )
    if fields["fingerprint"] != manifest.fingerprint:
        raise UserError(f"{path}: damaged manifest: its tensors do not have the fingerprint it states")
    return manifest

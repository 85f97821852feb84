"""Parameters in and out: Orbax exports that describe themselves, and Hugging Face folders (`.huggingface`)."""

from triarch.interchange.export import read_export, write_export
from triarch.interchange.loaded import LoadedModel, require_tokens
from triarch.interchange.manifest import ExportManifest, Origin, is_export, model_config, read_manifest
from triarch.interchange.placement import Placement
from triarch.interchange.streamed import StoredModel, open_export

__all__ = [
    "ExportManifest",
    "LoadedModel",
    "Origin",
    "Placement",
    "StoredModel",
    "is_export",
    "model_config",
    "open_export",
    "read_export",
    "read_manifest",
    "require_tokens",
    "write_export",
]

"""Parameters in and out: Orbax exports that describe themselves."""

from triarch.interchange.export import read_export, write_export
from triarch.interchange.loaded import LoadedModel
from triarch.interchange.manifest import Manifest, Origin, is_export, model_config, read_manifest
from triarch.interchange.placement import Placement

__all__ = [
    "LoadedModel",
    "Manifest",
    "Origin",
    "Placement",
    "is_export",
    "model_config",
    "read_export",
    "read_manifest",
    "write_export",
]

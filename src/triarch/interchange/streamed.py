"""Exports that never lie in memory as a whole: written from parts that are made, and read part by part."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triarch.files import write_synced
from triarch.interchange import export, manifest, orbax_folder, parameters
from triarch.interchange.file_list import check_files, write_file_list
from triarch.interchange.folders import whole_folder
from triarch.interchange.manifest import ExportManifest, Origin, Tensor
from triarch.interchange.model_card import ORBAX, model_card
from triarch.interchange.orbax_folder import Leaf, StoredLeaf
from triarch.models import MakeHead, ModelConfig, network

_BLOCK_BYTES = 1 << 24


@dataclasses.dataclass(frozen=True)
class StoredModel:
    """A network on disk: what it is, and its parameters to be read one by one.

    Attributes:
      path: the run or export.
      config: the network.
      origin: where its parameters come from.
      parameters: the Orbax folder that holds them.
      vocabulary_files: folder of the files that rebuild the vocabulary; None if there are none.
    """

    path: Path
    config: ModelConfig
    origin: Origin
    parameters: Path
    vocabulary_files: Path | None

    @property
    def vocabulary(self) -> Mapping[str, Any] | None:
        """Kind, size, fingerprint and special tokens of its vocabulary; None if unknown."""
        return self.origin.vocabulary

    def leaf(self, name: str) -> StoredLeaf:
        """Opens one parameter.

        Raises:
          UserError: a file is missing or damaged.
        """
        return orbax_folder.open_leaf(self.parameters, name)


def open_export(folder: Path) -> StoredModel:
    """Opens an export after checking all its files, without holding any.

    Raises:
      UserError: it is no export; a file is damaged or missing; its tensors are not those of its config.
    """
    found = manifest.read_manifest(folder)
    check_files(folder)
    path = folder / export.PARAMETERS
    parameters.check(network.specs(found.config), parameters.of_network(orbax_folder.shapes(path)), str(path))
    vocabulary = folder / export.VOCABULARY
    return StoredModel(folder, found.config, found.origin, path, vocabulary if vocabulary.is_dir() else None)


def write_leaves(
    output: Path,
    config: ModelConfig,
    origin: Origin,
    leaves: Mapping[str, Leaf],
    fill: Callable[[Path], None],
    overwrite: bool = False,
    make_head: MakeHead | None = None,
) -> ExportManifest:
    """Writes an export, the like of `write_export`'s, from parameters that are made part by part.

    Args:
      output: folder to make; it appears only when it is whole.
      config: the network.
      origin: what to keep of where the parameters come from.
      leaves: every parameter of the network by name.
      fill: puts further files into the folder that is being made: `vocabulary/` and whatever else is to be there.
      overwrite: replace an export that is there.
      make_head: makes what there is beside the network, as the head of a classifier; None for nothing.

    Raises:
      UserError: `output` exists or cannot be written, or the leaves are not the network's parameters.
    """
    specs = network.specs(config, make_head)
    parameters.check(specs, {name: leaf.shape for name, leaf in leaves.items()}, "the parameters to write")
    digests = {name: hashlib.sha256() for name in leaves}
    hashed = {name: dataclasses.replace(leaf, parts=_hashed(leaf, digests[name])) for name, leaf in leaves.items()}
    with whole_folder(output, overwrite, manifest.is_export) as folder:
        orbax_folder.save_leaves(folder / export.PARAMETERS, dict(sorted(hashed.items())))
        fill(folder)
        write_file_list(folder)
        written = ExportManifest(
            config=config,
            origin=origin,
            tensors={
                name: Tensor(spec.shape, leaves[name].dtype.name, spec.axes, digests[name].hexdigest())
                for name, spec in specs.items()
            },
        )
        write_synced(folder / export.CARD, model_card(config, origin, ORBAX))
        write_synced(folder / manifest.FILE_NAME, written.to_json())
    return written


def contiguous_blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yields an array's values in C order, a few megabytes at a time, whatever its strides: no second copy of it."""
    if array.flags.c_contiguous:
        yield array
        return
    if len(array) == 1:
        yield from contiguous_blocks(array[0])
        return
    rows = max(1, _BLOCK_BYTES * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), rows):
        yield np.ascontiguousarray(array[start : start + rows])


def _hashed(leaf: Leaf, digest: hashlib._Hash) -> Callable[[int], Iterator[np.ndarray]]:
    def parts(rows: int) -> Iterator[np.ndarray]:
        for part in leaf.parts(rows):
            assert part.dtype == leaf.dtype
            for block in contiguous_blocks(part):
                digest.update(block.reshape(-1).view(np.uint8).data)
            yield part

    return parts

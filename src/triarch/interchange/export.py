"""Exports: parameters only, with everything needed to use them, in a folder that describes itself.

Layout of an export:

    EXPORT/manifest.json    config (every field of ModelConfig), objective, vocabulary, step, source, fingerprint, and
                            for every tensor its shape, type, logical axes and sha256
    EXPORT/parameters/      an Orbax checkpoint (`orbax.checkpoint.StandardCheckpointer`): nested dicts of arrays
    EXPORT/files.json       size and sha256 of every file of the two folders
    EXPORT/vocabulary/      the files that rebuild the vocabulary, if they were known
    EXPORT/README.md        a model card, for readers

Tensor names are paths through the modules of `triarch.models` joined by "/", such as
`decoder/scanned/0/attention/query`; in the Orbax tree each part is a key. Matrices map inputs (rows) to outputs
(columns), heads lie side by side along the "heads" axis. Under `.../first/I` stand layers before the repeated group.
Under `.../scanned/I` stands layer I of a group that repeats to the end of the stack: its tensors carry the repeats
along axis 0 (logical axis "layers"), so that repeat R is layer `number of first layers + R * group length + I`, whether
the run scanned its layers or unrolled them. A shared embedding is stored once, as `embedding/table`.

Anything that reads Orbax can read `parameters/` without triarch:
`orbax.checkpoint.StandardCheckpointer().restore(path)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from triarch import registry
from triarch.errors import UserError, nearest
from triarch.files import copy_regular, write_synced
from triarch.interchange import manifest as manifests
from triarch.interchange import orbax_folder, parameters
from triarch.interchange.file_list import check_files, write_file_list
from triarch.interchange.folders import whole_folder
from triarch.interchange.loaded import LoadedModel
from triarch.interchange.manifest import DTYPES, ExportManifest, Origin, Tensor
from triarch.interchange.model_card import ORBAX, model_card
from triarch.interchange.placement import Placement, host_values
from triarch.models import Execution, MakeHead, Network, Transformer
from triarch.models.network import flatten, split, unflatten
from triarch.objectives import kept_head

PARAMETERS = "parameters"
VOCABULARY = "vocabulary"
CARD = "README.md"
_HASHING_THREADS = 4


def write_export(
    output: Path,
    model: Transformer,
    origin: Origin,
    *,
    dtype: str = "float32",
    vocabulary_files: Path | None = None,
    overwrite: bool = False,
    make_head: MakeHead | None = None,
) -> ExportManifest:
    """Writes the parameters of `model`, from any mesh of this process's devices.

    Args:
      output: folder to make; it appears only when it is whole.
      model: the network.
      origin: what to keep of where the parameters come from.
      dtype: type to store them in: "float32", "bfloat16" or "float16".
      vocabulary_files: folder to carry along.
      overwrite: replace an export that is there.
      make_head: made the head that the model has; None for none.

    Raises:
      UserError: `output` exists or cannot be written, the type is unknown or cannot hold the values.
    """
    if dtype not in DTYPES:
        raise UserError(f"--dtype={dtype}: no type to export{nearest(dtype, DTYPES)}")
    if jax.process_count() > 1:
        raise UserError("an export is written by one process: run it on one host, it reads any run's checkpoints")
    network, params = split(model, make_head)
    tensors = {name: value.astype(jnp.dtype(dtype)) for name, value in flatten(params).items()}
    digests = _digests(tensors)
    manifest = ExportManifest(
        config=model.config,
        origin=origin,
        tensors={name: Tensor(spec.shape, dtype, spec.axes, digests[name]) for name, spec in network.specs.items()},
    )
    if dtype == "float16":
        _check_range(tensors)
    with whole_folder(output, overwrite, manifests.is_export) as folder:
        orbax_folder.save(folder / PARAMETERS, tensors)
        if vocabulary_files is not None:
            copy_regular(vocabulary_files, folder / VOCABULARY)
        write_file_list(folder)
        write_synced(folder / CARD, model_card(model.config, origin, ORBAX))
        write_synced(folder / manifests.FILE_NAME, manifest.to_json())
    return manifest


def read_export(
    folder: Path,
    execution: Execution | None = None,
    placement: Placement | None = None,
    every_tensor: bool = False,
) -> LoadedModel:
    """Loads an export; parameters become float32, as the network computes with them.

    Args:
      folder: made by `write_export`, on whatever mesh.
      execution: how the network is to be computed.
      placement: where it is to live; one device by default.
      every_tensor: also load what is stored of a head that the export's objective says nothing of, as a pooler.

    Raises:
      UserError: it is no export; a tensor is missing, one too many, misshapen (named, with both shapes) or not the
        one that was written; a file is damaged or missing; it was trained with an objective of a module that was not
        imported.
    """
    manifest = manifests.read_manifest(folder)
    registry.check_origins(manifest.origin.objective, str(folder))
    placement = placement or Placement.one_device()
    check_files(folder)
    make_head = kept_head(manifest.origin.objective, manifest.config, str(folder))
    network = Network(manifest.config, execution, placement.constrain, make_head=make_head)
    stored = {name: tensor.shape for name, tensor in manifest.tensors.items()}
    for where, found in ((manifests.FILE_NAME, stored), (PARAMETERS, orbax_folder.shapes(folder / PARAMETERS))):
        parameters.check(network.specs, parameters.with_head(found, make_head), str(folder / where))
    wanted = {
        name: jax.ShapeDtypeStruct(tensor.shape, jnp.dtype(tensor.dtype))
        for name, tensor in manifest.tensors.items()
        if name in network.specs or every_tensor
    }
    shardings = dict.fromkeys(wanted, placement.replicated) | placement.parameters(network.specs)
    tensors = orbax_folder.load(folder / PARAMETERS, wanted, shardings)
    _check_digests(folder, manifest, tensors)
    tensors = {name: value.astype(jnp.float32) for name, value in tensors.items()}
    vocabulary_files = folder / VOCABULARY
    return LoadedModel(
        path=folder,
        network=network,
        params=unflatten(tensors),
        origin=manifest.origin,
        placement=placement,
        vocabulary_files=vocabulary_files if vocabulary_files.is_dir() else None,
    )


def _check_digests(folder: Path, manifest: ExportManifest, tensors: Mapping[str, jax.Array]) -> None:
    for name, digest in _digests(tensors).items():
        if digest != manifest.tensors[name].sha256:
            raise UserError(f"{folder / PARAMETERS}: tensor {name!r} is damaged: it is not the one that was exported")


def _digests(tensors: Mapping[str, jax.Array]) -> dict[str, str]:
    # Gathering is collective, so all hosts do it in the same order; hashing releases the interpreter's lock.
    with ThreadPoolExecutor(_HASHING_THREADS) as pool:
        return dict(zip(tensors, pool.map(_digest, map(host_values, tensors.values())), strict=True))


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data).hexdigest()


def _check_range(tensors: Mapping[str, jax.Array]) -> None:
    for name, value in tensors.items():
        if not bool(jnp.isfinite(value).all()):
            raise UserError(f"--dtype=float16 cannot hold the values of tensor {name!r}: use bfloat16")

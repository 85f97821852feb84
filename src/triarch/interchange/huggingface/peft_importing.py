"""From adapters as peft has them, and their base, to an export of the sums."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triarch.files import regular_files
from triarch.interchange.export import VOCABULARY
from triarch.interchange.huggingface.peft import Update, is_stacked, read_peft, summed
from triarch.interchange.manifest import TUNED_FROM, ExportManifest, Origin
from triarch.interchange.orbax_folder import Leaf
from triarch.interchange.streamed import StoredModel, write_leaves
from triarch.models.network import specs


def write_with_peft(folder: Path, base: StoredModel, output: Path, overwrite: bool = False) -> ExportManifest:
    """Writes an export of a base with adapters added to its kernels, float32 where there are some.

    Args:
      folder: of the adapters.
      base: that they go with.
      output: folder to make; it appears only when it is whole.
      overwrite: replace an export that is there.

    Raises:
      UserError: as `read_peft`; `output` exists or cannot be written, or a parameter cannot be read.
    """
    updates = read_peft(folder, base)
    leaves = {}
    for name, spec in specs(base.config).items():
        stored, rows = base.leaf(name), updates.get(name, {})
        dtype = np.dtype(np.float32) if rows else stored.dtype
        leaves[name] = Leaf(spec.shape, dtype, is_stacked(base, name), functools.partial(_parts, stored, rows))

    def fill(making: Path) -> None:
        source = base.vocabulary_files
        if source is None:
            return
        (making / VOCABULARY).mkdir()
        for path in regular_files(source, source.parent):
            if path.parent == source:
                shutil.copyfile(path, making / VOCABULARY / path.name)

    said = base.origin.imported
    known = {} if said is None else {key: said.get(key) for key in ("huggingface", "config", "generation_config")}
    source = {"adapter": folder.absolute().name, "base": base.path.absolute().name}
    origin = Origin(
        objective=base.origin.objective,
        vocabulary=base.origin.vocabulary,
        step=base.origin.step,
        source=source | ({TUNED_FROM: known} if known else {}),
    )
    return write_leaves(output, base.config, origin, leaves, fill, overwrite)


def _parts(stored: Any, rows: Mapping[int | None, Update], num_rows: int) -> Iterator[np.ndarray]:
    return summed(stored, rows) if rows else stored.parts()

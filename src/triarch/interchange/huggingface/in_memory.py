"""A Hugging Face folder as a network in memory: nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from triarch.interchange.huggingface.importing import OpenedFolder, make_leaves
from triarch.interchange.loaded import LoadedModel
from triarch.interchange.manifest import Origin
from triarch.interchange.parameters import of_network
from triarch.interchange.placement import Placement
from triarch.models import Execution, Network
from triarch.models.network import unflatten


def read_folder(
    opened: OpenedFolder,
    *,
    vocabulary: Mapping[str, Any] | None = None,
    execution: Execution | None = None,
    placement: Placement | None = None,
) -> LoadedModel:
    """Returns the network of a Hugging Face folder, its parameters in float32.

    Args:
      opened: the folder.
      vocabulary: of its tokenizer, as in a token store's manifest; None if unknown.
      execution: how the network is to be computed.
      placement: where it is to live; one device by default.

    Raises:
      UserError: a tensor cannot be read.
    """
    placement = placement or Placement.one_device()
    make_head = opened.family.make_head
    leaves, _ = make_leaves(opened, lambda num_bytes: None, make_head)
    if opened.family.objective is None:
        # A pooler is of use to a classifier alone.
        leaves, make_head = of_network(leaves), None
    network = Network(opened.config, execution, placement.constrain, make_head=make_head)
    places = placement.parameters(network.specs)
    tensors = {}
    for name, leaf in leaves.items():
        values = np.concatenate(list(leaf.parts(max(leaf.shape[0], 1))))
        tensors[name] = jax.device_put(values.astype(np.float32), places[name])
    return LoadedModel(
        path=opened.folder,
        network=network,
        params=unflatten(tensors),
        origin=Origin(opened.family.objective, vocabulary, source=opened.source),
        placement=placement,
    )

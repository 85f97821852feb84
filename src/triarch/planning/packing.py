"""Runs whose batches are packed as they are read, as the rows that a step computes."""

from __future__ import annotations

import dataclasses
import math

from triarch.planning.topology import Topology
from triarch.training.config import RunConfig
from triarch.training.inputs import open_inputs


def by_rows(config: RunConfig, topology: Topology) -> tuple[RunConfig, str]:
    """Returns a run's config with a batch of the rows that its examples share, and a line that says so.

    The rows are those of the first batch of the run's store; without one, an example a row, which is the most.

    Args:
      config: of a run with `DataConfig.pack_batches`.
      topology: over whose devices a batch is split.

    Raises:
      UserError: the store is missing or damaged, or does not go with the config.
    """
    examples = config.batch_size
    rows = examples
    if config.data.store is not None:
        inputs = open_inputs(config)
        multiple = math.gcd(examples, topology.num_devices * config.microbatches)
        batches = inputs.packed(inputs.raw_training(), multiple, lambda count: slice(None))
        rows = min(examples, -(-batches.usual_rows // batches.granularity) * batches.granularity)
    data = dataclasses.replace(config.data, pack_batches=False)
    told = f"batch          {examples:,} examples in {rows:,} rows of {config.data.window:,} tokens"
    if config.data.store is None:
        told += ": name the store (DataConfig.store) to have them share rows"
    return dataclasses.replace(config, batch_size=rows, data=data), told

"""What a run needs of memory at the least, against what its devices have: the impossible is refused by arithmetic."""

from __future__ import annotations

import math

import jax
import numpy as np

from triarch.errors import UserError
from triarch.memory import asked_bytes, host_bytes, shown
from triarch.training.run import Run


def least_bytes(run: Run) -> dict[str, int]:
    """Returns bytes over all devices by what they are for, "state", "gradients" and "batch", none of them avoidable.

    The first two are exact. Of a batch only its integer features are counted, and for the rows of one microbatch the
    hidden states of one layer: activations take many times that. Examples that share rows count by their mean length.
    """
    config = run.config
    tokens = run.inputs.least_rows(config.batch_size) * sum(run.objective.lengths.values())
    features = 3 * np.dtype(np.int32).itemsize * tokens
    # A layer's input, at two bytes a number at least.
    width = min(config.model.d_model, config.model.of_side("decoder").d_model)
    hidden = 2 * width * tokens // config.microbatches
    return {
        "state": _tree_bytes(run.target),
        "gradients": _tree_bytes(run.network.trained(run.target.params)),
        "batch": features + hidden,
    }


def available_bytes(run: Run) -> int | None:
    """Returns the memory of all devices of the run's mesh; None where they do not tell."""
    device = run.mesh.devices.flat[0]
    if device.platform == "cpu":
        return host_bytes() * jax.process_count()
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats["bytes_limit"] * run.mesh.size if "bytes_limit" in stats else None


def check_memory(run: Run) -> None:
    """Refuses a run, or phase of one, that cannot fit; one that passes may still not.

    Raises:
      UserError: it needs more than all devices have; says for what.
    """
    needs, available = least_bytes(run), available_bytes(run)
    needed = sum(needs.values())
    if available is not None and needed > available:
        raise UserError(f"the run needs {_needs(run)} at the least; there are {shown(available)}: {_advice(run)}")


def explain(run: Run, error: BaseException) -> str:
    """Returns a line about a run that was out of memory."""
    asked, available = asked_bytes(error), available_bytes(run)
    more = "" if asked is None else f": {shown(asked)} more were asked for at once"
    there = "" if available is None else f", of {shown(available)} there are"
    return f"out of memory{more}; activations apart, the run takes {_needs(run)}{there}: {_advice(run)}"


def _needs(run: Run) -> str:
    needs, config = least_bytes(run), run.config
    return (
        f"{shown(sum(needs.values()))} (parameters and optimizer {shown(needs['state'])}, gradients "
        f"{shown(needs['gradients'])}, a batch of {config.batch_size:,} examples {shown(needs['batch'])})"
    )


def _advice(run: Run) -> str:
    needs, config = least_bytes(run), run.config
    if needs["batch"] < needs["state"] + needs["gradients"] > 0.5 * (available_bytes(run) or math.inf):
        return "take a smaller model, or more devices"
    remat = "" if config.execution.remat == "full" else "Execution.remat = 'full', "
    return f"try {remat}a larger RunConfig.microbatches or a smaller batch_size"


def _tree_bytes(tree: object) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

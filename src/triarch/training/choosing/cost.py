"""Memory and time of a training step on a mesh, by arithmetic: what a choice is made by before anything is compiled.

Calibrated on docs/plans.md: of its 180 rows, compiled for TPUs, `needed_bytes` is off by 5 % on average, by 13 % at
most where it is too low, and up to 43 % too high for the smallest models; `seconds` by 8 %, at most 27 %, beside the
roofline of the compiled program, see `benchmarks/plan_model.py`. Five steps that MaxText's authors measured on v5e and
v5p took within 7 % of it, see `benchmarks/maxtext_steps.py`. It takes no notice of kernels' own scratch memory.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from jax.sharding import AbstractMesh

from triarch.models.layers.stack import repeating
from triarch.sharding import partition_spec
from triarch.sharding.mesh import AXES
from triarch.sharding.torus import places
from triarch.training.choosing.facts import Facts
from triarch.training.choosing.machine import Machine
from triarch.training.state import StateLeaf

# By how much `needed_bytes` may be too low, with something to spare.
LOW = 0.14
# Bytes reserved for each byte of what a step holds: fitted to the rows of docs/plans.md.
_SAVED, _LAYER, _LOGITS, _GRADIENTS, _TABLE, _WEIGHTS = 1.05, 0.8, 2.0, 0.7, 0.4, 1.2
# Operations made again, of the model's own.
_AGAIN = {"none": 0.04, "save_projections_and_attention": 0.06, "save_projections": 0.12, "full": 0.28}
# Times that the activations of a layer, and the logits, pass between the chip and its memory.
_PASSES = {"none": 8.5, "save_projections_and_attention": 11.0, "save_projections": 11.0, "full": 7.0}
_LOGIT_PASSES = 5.0
# Of the time of gathering parameters what computing does not hide.
_UNHIDDEN = 0.6
# Of the time of summing activations over heads, likewise: two published steps (benchmarks/maxtext_steps.py).
_UNHIDDEN_TENSOR = 0.4
# That a message takes from one chip to the next, however short it is.
_HOP_SECONDS = 1e-6
_WIDE, _NARROW = 4, 2  # Bytes of float32, and of bfloat16.


@dataclasses.dataclass(frozen=True)
class Option:
    """What may be chosen.

    Attributes:
      sizes: of every mesh axis.
      remat: the policy.
      gather: of parameters.
      microbatches: parts of the batch.
    """

    sizes: Mapping[str, int]
    remat: str
    gather: str
    microbatches: int = 1

    @property
    def rows(self) -> int:
        """Into how many parts a microbatch is split."""
        return math.prod(self.sizes[axis] for axis in ("replica", "data", "fsdp", "expert"))

    def __str__(self) -> str:
        mesh = ", ".join(f"{axis}={size}" for axis, size in self.sizes.items() if size > 1)
        parts = f", {self.microbatches} microbatches" if self.microbatches > 1 else ""
        gathered = f", gather {self.gather}" if self.sizes["fsdp"] > 1 else ""
        return f"{mesh or 'one device'}, remat {self.remat}{gathered}{parts}"


def needed_bytes(facts: Facts, option: Option) -> float:
    """Returns the bytes that the step takes of each device: arguments, results and temporaries."""
    config, sizes = facts.config, option.sizes
    tensor, shards = sizes["tensor"], sizes["sequence"]
    rows = config.batch_size / option.rows / option.microbatches
    none, saved = (facts.saved(policy).on(tensor) * rows / shards for policy in ("none", option.remat))
    group = _group(facts)
    again = group * (none - saved) / facts.num_layers
    logits = _WIDE * rows * _chunk(facts) * config.model.vocab_size / tensor / shards
    gradients = _held(facts, facts.gradients, sizes)
    stacked = _NARROW * _numbers(leaf for leaf in facts.parameters if (leaf.axes or ())[:1] == ("layers",)) / tensor
    table = _WIDE * config.model.vocab_size * config.model.of_side("decoder").d_model / tensor
    temporaries = (
        _SAVED * saved
        + max(_LOGITS * logits, _LAYER * again)
        + (_GRADIENTS + (option.microbatches > 1)) * gradients
        + _TABLE * table
        + (_WEIGHTS * group * stacked / facts.num_layers if sizes["fsdp"] > 1 else 0)
        # Without recomputation matrices stay as they were multiplied with: in the type of activations, and whole.
        + (stacked if option.remat == "none" else 0)
    )
    return _held(facts, facts.state, sizes) + temporaries


def seconds(facts: Facts, option: Option, machine: Machine) -> float:
    """Returns the estimated seconds of a step."""
    config, sizes = facts.config, option.sizes
    tensor, devices = sizes["tensor"], machine.num_devices
    rows = config.batch_size / option.rows
    flops = config.batch_size * facts.objective.flops(config.model, "train") * (1 + _AGAIN[option.remat]) / devices
    activations = facts.saved("none").on(tensor) * rows / sizes["sequence"]
    logits = _WIDE * rows * facts.objective.num_scored * config.model.vocab_size / tensor / sizes["sequence"]
    moved = _PASSES[option.remat] * activations + _LOGIT_PASSES * logits
    # Every microbatch adds its gradients to those before it.
    moved += (option.microbatches - 1) * 3 * _held(facts, facts.gradients, sizes)
    return flops / machine.flops + moved / machine.hbm_bandwidth + _sending(facts, option, machine)


def _sending(facts: Facts, option: Option, machine: Machine) -> float:
    """Returns the seconds that computing does not hide of what devices send each other."""
    config, sizes = facts.config, option.sizes
    numbers, trained = _numbers(facts.parameters), _numbers(facts.gradients)
    tensor, fsdp = sizes["tensor"], sizes["fsdp"]
    links = _links(option, machine)
    narrow = option.gather == "layer"
    gathers = 1 if option.remat == "none" and narrow else 2
    passes = gathers * _NARROW * numbers + (_NARROW if narrow else _WIDE) * trained
    total = _UNHIDDEN * passes * option.microbatches / tensor / links["fsdp"] if fsdp > 1 else 0.0
    total += 2 * _WIDE * trained / tensor / fsdp / links["data"] if sizes["data"] > 1 else 0.0
    if tensor > 1 or sizes["sequence"] > 1:
        tokens = config.batch_size / option.rows / sizes["sequence"] * sum(facts.objective.lengths.values())
        width = max(config.model.of_side(side).d_model for side in ("encoder", "decoder"))
        layer = _NARROW * tokens * width * facts.num_layers / 2 / max(len(facts.objective.lengths), 1) * 2
        again = 2 if option.remat == "none" else 3
        total += _UNHIDDEN_TENSOR * 4 * again * layer / links["tensor"] if tensor > 1 else 0.0
        total += 2 * again * layer / links["sequence"] if sizes["sequence"] > 1 else 0.0
    total = total / machine.link_bandwidth
    if fsdp > 1:
        arrays = sum(leaf.like.shape[0] if (leaf.axes or ())[:1] == ("layers",) else 1 for leaf in facts.parameters)
        total += _UNHIDDEN * (gathers + 1) * option.microbatches * arrays * _hops(machine) * _HOP_SECONDS
    if machine.slices > 1:
        share = trained * _WIDE / (machine.num_devices // machine.slices)
        total += 2 * share * (machine.slices - 1) / machine.slices / machine.network_bandwidth
    return total


def _links(option: Option, machine: Machine) -> dict[str, int]:
    """Returns over how many links each mesh axis sends: an axis of the torus has two where its ends are joined."""
    names = [axis for axis in AXES if axis != "replica"]
    found = places([option.sizes[axis] for axis in names], machine.shape)
    if found is None or not machine.wraps:
        return dict.fromkeys(names, 1)  # An axis that is split sends over one link.
    each = (sum(2 if machine.shape[axis] >= machine.wraps else 1 for axis in taken) for taken in found)
    return {name: max(count, 1) for name, count in zip(names, each, strict=True)}


def _hops(machine: Machine) -> float:
    """Returns over how many links the farthest chips of a slice lie apart."""
    return sum(extent / 2 if machine.wraps and extent >= machine.wraps else extent - 1 for extent in machine.shape)


def _held(facts: Facts, leaves: Sequence[StateLeaf], sizes: Mapping[str, int]) -> float:
    """Returns the bytes of arrays that one device holds."""
    known = (id(leaves), *(sizes[axis] for axis in AXES))
    if known in facts.held:
        return facts.held[known]
    mesh = AbstractMesh(tuple(sizes[axis] for axis in AXES), AXES)
    total = 0.0
    for like, axes in leaves:
        shards = 1
        if axes is not None:
            spec = partition_spec(axes, like.shape, facts.config.rules.parameters, mesh)
            names = [name for part in spec if part for name in ((part,) if isinstance(part, str) else part)]
            shards = math.prod(sizes[name] for name in names)
        total += math.prod(like.shape) * like.dtype.itemsize / shards
    facts.held[known] = total
    return total


def _numbers(leaves: Iterable[StateLeaf]) -> int:
    return sum(math.prod(leaf.like.shape) for leaf in leaves)


def _group(facts: Facts) -> int:
    """Returns how many layers a step of the loop over layers has: their activations are made again together."""
    model = facts.config.model
    return max(1, *(repeating(model.layer_specs(side))[1] for side in facts.sides))


def _chunk(facts: Facts) -> int:
    """Returns the positions of a row whose logits are held at once."""
    scored, most = facts.objective.num_scored, facts.config.loss_chunk
    return scored if not most or scored <= most else math.ceil(scored / math.ceil(scored / most))

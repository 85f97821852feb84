"""What a compiled program does on one device: matrix products and bytes of memory, loops multiplied out."""

from __future__ import annotations

import dataclasses
import json
import math
import re

from triarch.planning.hlo import ArrayShape, Computation, Instruction, Module

# Names for what is there already, and steps whose time is counted where they finish or with what they call.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"),
    *("while", "call", "conditional", "opt-barrier", "async-start", "async-update", "async-done", "copy-done"),
}

# What moves only what it makes, however large the array is that it takes it from.
_MOVES = ("slice", "dynamic-slice", "copy")
_KERNEL_PRODUCTS = {"splash_mha_fwd": 2, "splash_mha_dkv": 4, "splash_mha_dq": 3}
_QUERY_RANKS = (4, 3)  # batch, heads, queries, head dimension; a single row has no axis of its own


@dataclasses.dataclass(frozen=True)
class Work:
    """One kind of step.

    Attributes:
      flops: operations of matrix products, 2 a multiply-add; kernels by their own estimate.
      hbm_bytes: read from and written to HBM.
      times: how often it runs.
    """

    flops: float
    hbm_bytes: float
    times: int


def steps(module: Module) -> list[tuple[Instruction, Work]]:
    """Returns everything that runs as a step of its own, collectives included, with its work a time."""
    found = []
    for instruction, computation, times in module.executed():
        if instruction.opcode not in _FREE and times:
            flops = _flops(instruction, computation) + sum(
                _flops(inner, around) for inner, around in module.fused(instruction)
            )
            found.append((instruction, Work(flops, _hbm_bytes(module, instruction, computation), times)))
    return found


def total_flops(module: Module) -> float:
    """Returns operations of all matrix products on one device."""
    return sum(work.flops * work.times for _, work in steps(module))


def _flops(instruction: Instruction, computation: Computation) -> float:
    if instruction.opcode == "convolution":
        left, right = (computation[name].arrays[0] for name in instruction.operands[:2])
        return _convolution_flops(instruction, left, right)
    if instruction.opcode == "dot":
        left = computation[instruction.operands[0]].arrays[0]
        contracted = re.findall(r"\d+", instruction.attribute("lhs_contracting_dims") or "")
        return 2.0 * instruction.arrays[0].size * math.prod(left.dimensions[int(axis)] for axis in contracted)
    if instruction.opcode == "custom-call":
        return _kernel_flops(instruction, computation)
    return 0.0


def _kernel_flops(instruction: Instruction, computation: Computation) -> float:
    """Returns the products of an attention kernel, which the compiler does not know, or what a kernel says of itself.

    Forward 2 products of queries by keys by head dimension; backward 4 for keys and values, 3 for queries, some of them
    done again in both. Its scope names the share of the square that it goes through.
    """
    visited = re.search(r"visited_([\d.]+)", instruction.source)
    products = next((count for name, count in _KERNEL_PRODUCTS.items() if name in instruction.name), 0)
    if visited and products:
        shapes = [computation[name].arrays[0].dimensions for name in instruction.operands]
        of_rank = ([shape for shape in shapes if len(shape) == rank] for rank in _QUERY_RANKS)
        query, key = next(found for found in of_rank if found)[:2]
        return 2.0 * products * float(visited[1]) * math.prod(query) * key[-2]
    found = re.search(r'"cost_estimate":(\{[^}]*\})', instruction.text)
    return float(json.loads(found[1]).get("flops", 0)) if found else 0.0


def _convolution_flops(instruction: Instruction, left: ArrayShape, right: ArrayShape) -> float:
    """Returns operations of what TPUs make of a matrix product: of each window only what falls onto the input."""
    inputs, kernel, outputs = re.split("_|->", instruction.attribute("dim_labels") or "")
    output = instruction.arrays[0]
    groups = int(instruction.attribute("feature_group_count") or 1)
    window = dict(re.findall(r"(\w+)=([\dx_\-]+)", instruction.attribute("window") or ""))
    pairs = 1
    for axis in range(sum(label.isdigit() for label in outputs)):
        stride, dilate, kernel_dilate = (
            _window_value(window, name, axis, 1) for name in ("stride", "lhs_dilate", "rhs_dilate")
        )
        pairs *= _valid_pairs(
            left.dimensions[inputs.index(str(axis))],
            right.dimensions[kernel.index(str(axis))],
            output.dimensions[outputs.index(str(axis))],
            stride,
            dilate,
            kernel_dilate,
            int(window.get("pad", "").split("x")[axis].split("_")[0]) if "pad" in window else 0,
        )
    batch, features = output.dimensions[outputs.index("b")], output.dimensions[outputs.index("f")]
    return 2.0 * pairs * batch * features * left.dimensions[inputs.index("f")] / groups


def _window_value(window: dict[str, str], name: str, axis: int, default: int) -> int:
    return int(window[name].split("x")[axis]) if name in window else default


def _valid_pairs(size: int, kernel: int, output: int, stride: int, dilate: int, kernel_dilate: int, pad: int) -> int:
    """Returns for how many pairs of output place and kernel place there is an input."""
    if output * kernel > 1 << 22:
        return output * kernel
    dilated = (size - 1) * dilate + 1
    count = 0
    for place in range(output):
        for offset in range(kernel):
            at = place * stride + offset * kernel_dilate - pad
            count += 0 <= at < dilated and at % dilate == 0
    return count


def _hbm_bytes(module: Module, instruction: Instruction, computation: Computation) -> float:
    if instruction.opcode.endswith("-done"):
        return 0.0
    if instruction.opcode.removesuffix("-start") in _MOVES:
        return _moved_bytes(instruction, computation)
    body = (
        module.computations.get(instruction.called[0], {})
        if instruction.opcode == "fusion" and instruction.called
        else {}
    )
    parameters = {int(i.argument): i for i in body.values() if i.opcode == "parameter"}
    total = 0.0
    for index, name in enumerate(instruction.operands):
        for array in computation[name].arrays:
            if array.in_hbm:
                total += _read(body, parameters[index], array) if index in parameters else array.num_bytes
    return total + _written(body, instruction)


def _moved_bytes(instruction: Instruction, computation: Computation) -> float:
    """Returns what is read and written of HBM where a part of an array, or all of it, goes elsewhere."""
    source = computation[instruction.operands[0]].arrays[0]
    # The start of an asynchronous slice holds the whole array, then the part; that of a copy the copy first.
    made = instruction.arrays[1 if instruction.opcode in ("slice-start", "dynamic-slice-start") else 0]
    return float(made.num_bytes * (source.in_hbm + made.in_hbm))


def _read(body: Computation, parameter: Instruction, array: ArrayShape) -> float:
    """Returns how much of an operand a fusion reads: only the slice, if slicing is all that it does with it."""
    users = [user for user in body.values() if parameter.name in user.operands]
    if users and all(user.opcode == "dynamic-slice" for user in users):
        return sum(user.num_bytes for user in users)
    if users and all(user.opcode == "dynamic-update-slice" and user.operands[0] == parameter.name for user in users):
        return 0.0
    return array.num_bytes


def _written(body: Computation, instruction: Instruction) -> float:
    """Returns how much a step writes: only the slice, where it changes one in place."""
    updates = {
        user.arrays[0].dimensions: body[user.operands[1]].num_bytes
        for user in body.values()
        if user.opcode == "dynamic-update-slice"
    }
    return float(sum(updates.get(array.dimensions, array.num_bytes) for array in instruction.arrays if array.in_hbm))

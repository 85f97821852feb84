"""The compiler's output as data: computations, instructions, and how often each one runs."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<= ]*)\](?:\{([^}]*)\})?")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|branch_computations|called_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)
_NAME = re.compile(r"%([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class ArrayShape:
    """One array: its element type, dimensions, and whether it lies in HBM."""

    dtype: str
    dimensions: tuple[int, ...]
    in_hbm: bool

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.dimensions)

    @property
    def num_bytes(self) -> int:
        """Bytes, not counting what tiles leave empty."""
        return math.ceil(self.size * _bits(self.dtype) / 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: unique in its module.
      opcode: "fusion", "all-reduce", ...
      arrays: what it makes; several for a tuple.
      operands: names of what it reads, within its computation.
      text: the whole line after the operands: attributes, metadata, the back end's configuration.
      argument: what stands in the parentheses, of constants and parameters.
    """

    name: str
    opcode: str
    arrays: tuple[ArrayShape, ...]
    operands: tuple[str, ...]
    text: str
    argument: str
    is_root: bool

    @functools.cached_property
    def called(self) -> tuple[str, ...]:
        """Names of the computations it runs."""
        return tuple(
            name.lstrip("%") for found in _CALLED.findall(self.text) for name in re.findall(r"%?[\w.\-]+", found)
        )

    def attribute(self, name: str) -> str | None:
        """Returns an attribute such as "dim_labels", or None."""
        found = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^\s,]+)", self.text)
        return found[1] if found else None

    @property
    def source(self) -> str:
        """The jax operation it was made for."""
        found = re.search(r'op_name="([^"]*)"', self.text)
        return found[1] if found else ""

    @property
    def num_bytes(self) -> int:
        """Bytes of what it makes."""
        return sum(array.num_bytes for array in self.arrays)


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program.

    Attributes:
      computations: by name; each a dict of instructions by name, in order.
      entry: name of the one that runs first.
    """

    computations: dict[str, Computation]
    entry: str

    def executed(self) -> Iterator[tuple[Instruction, Computation, int]]:
        """Yields what runs as a step of its own, with its computation and how often: loops are multiplied out.

        Instructions inside fusions and reductions are not yielded: see `fused`.
        """
        yield from self._walk(self.entry, 1)

    def fused(self, instruction: Instruction) -> Iterator[tuple[Instruction, Computation]]:
        """Yields the instructions of a fusion, with those of fusions within it."""
        for name in instruction.called:
            computation = self.computations.get(name, {})
            for inner in computation.values():
                yield inner, computation
                yield from self.fused(inner)

    def _walk(self, name: str, times: int) -> Iterator[tuple[Instruction, Computation, int]]:
        computation = self.computations[name]
        for instruction in computation.values():
            yield instruction, computation, times
            if instruction.opcode == "while":
                condition, body = (_called_as(instruction, key) for key in ("condition", "body"))
                yield from self._walk(body, times * self.trip_count(instruction, computation, condition))
            elif instruction.opcode in ("call", "conditional", "async-start"):
                for called in instruction.called:
                    if called in self.computations:
                        yield from self._walk(called, times)

    def trip_count(self, loop: Instruction, computation: Computation, condition: str) -> int:
        """Returns how often a loop runs: its counter goes up by one to a constant; 1 where that is not so."""
        known = re.search(r'known_trip_count"?:\{"n":"(\d+)"', loop.text)
        if known:
            return int(known[1])
        test = next((i for i in self.computations[condition].values() if i.is_root), None)
        if test is None or len(test.operands) != 2:
            return 1
        bounds = [self._constant(self.computations[condition], name, loop, computation) for name in test.operands]
        start, end = (bounds[0] or 0), bounds[1]
        return 1 if end is None else max(end - start + ("direction=LE" in test.text), 0)

    def _constant(self, inside: Computation, name: str, loop: Instruction, outside: Computation) -> int | None:
        """Returns a scalar of a loop's condition: a constant there, or one that the loop is given."""
        instruction = _followed(inside, name)
        if instruction.opcode == "constant":
            return int(instruction.argument) if re.fullmatch(r"-?\d+", instruction.argument) else None
        if instruction.opcode != "get-tuple-element":
            return None
        given = outside.get(loop.operands[0])
        index = int(instruction.attribute("index") or 0)
        if given is None or given.opcode != "tuple" or index >= len(given.operands):
            return None
        value = _followed(outside, given.operands[index])
        return int(value.argument) if value.opcode == "constant" and value.argument.isdigit() else None


def parse(text: str) -> Module:
    """Reads the text of a compiled module.

    Raises:
      ValueError: it has no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, current = None, None
    for line in _whole_lines(text):
        opening = _COMPUTATION.match(line)
        if opening:
            current = computations.setdefault(opening[2], {})
            entry = opening[2] if opening[1] else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            instruction = _instruction(line[found.end() :], found[2], bool(found[1]))
            current[instruction.name] = instruction
    if entry is None:
        raise ValueError("no ENTRY computation in the text of the module")
    return Module(computations, entry)


def _whole_lines(text: str) -> Iterator[str]:
    """Yields lines, those of an instruction that goes over several (a kernel's metadata) as one."""
    whole = ""
    for line in text.splitlines():
        if not line or line.rstrip() == "}" or _COMPUTATION.match(line) or _INSTRUCTION.match(line):
            yield whole
            whole = line
        else:
            whole += line
    yield whole


def _instruction(rest: str, name: str, is_root: bool) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    argument = rest[opening + 1 : closing]
    return Instruction(
        name=name,
        opcode=rest[:opening],
        arrays=tuple(_arrays(shape)),
        operands=tuple(_NAME.findall(argument)),
        text=rest[closing + 1 :],
        argument=argument,
        is_root=is_root,
    )


def _closing(text: str, start: int) -> int:
    depth = 0
    for found in re.compile(r"[()]").finditer(text, start):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return found.start()
    raise ValueError(f"unbalanced parentheses: {text[:80]}")


def _arrays(shape: str) -> Iterator[ArrayShape]:
    for dtype, dimensions, layout in _ARRAY.findall(shape):
        sizes = tuple(int(size.replace("<=", "")) for size in dimensions.split(",") if size.strip())
        yield ArrayShape(dtype, sizes, re.search(r"S\([1-9]\)", layout) is None)


@functools.cache
def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8


def _called_as(instruction: Instruction, key: str) -> str:
    return (instruction.attribute(key) or "").lstrip("%")


def _followed(computation: Computation, name: str) -> Instruction:
    """Returns what an instruction copies, or itself."""
    instruction = computation[name]
    while instruction.opcode in ("copy", "bitcast", "convert") and instruction.operands:
        instruction = computation[instruction.operands[0]]
    return instruction

"""Slices of TPUs by name: which there are, and their devices without the hardware."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re

from triarch.errors import UserError, nearest
from triarch.training.choosing.chips import CHIPS, Chip
from triarch.training.choosing.machine import Machine, machine_of_chips

# Shapes of https://cloud.google.com/tpu/docs: below 64 chips these, from there on multiples of four in rising order.
_SMALL_CUBES = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))
_FLAT = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
_LARGEST_CUBE = {"v4": 4096, "v5p": 6144}
_LONGEST_SIDE = 24
_ALIASES = {"v5": "v5p", "v5litepod": "v5e"}


@dataclasses.dataclass(frozen=True)
class Topology:
    """One slice, or several equal ones joined over the data-centre network.

    Attributes:
      chip: of which it is made.
      shape: chips along each axis of a slice.
      slices: how many.
    """

    chip: Chip
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def name(self) -> str:
        """As `--topology` takes it: "v5p:4x4x4"."""
        return f"{self.chip.generation}:{'x'.join(map(str, self.shape))}"

    @property
    def slice_name(self) -> str:
        """As Google names the slice: "v5p-128"."""
        return f"{self.chip.generation}-{math.prod(self.shape) * self.chip.names_per_chip}"

    @property
    def machine(self) -> Machine:
        """What a run's choice of a mesh depends on."""
        return machine_of_chips(self.chip, self.shape, self.slices)

    @property
    def num_devices(self) -> int:
        """Chips of all slices."""
        return math.prod(self.shape) * self.slices

    def __str__(self) -> str:
        joined = f"{self.slices} slices of " if self.slices > 1 else ""
        return f"{joined}{self.name} ({self.slice_name}, {self.num_devices} chips)"


def parse(text: str, slices: int = 1) -> Topology:
    """Returns the slice of a name: of its shape, such as "v5p:4x4x4", or Google's, such as "v5p-128".

    Raises:
      UserError: there is no such slice; the nearest is named.
    """
    if slices < 1:
        raise UserError(f"--slices={slices}: expected a whole number from 1 on")
    found = re.fullmatch(r"(\w+?)(?::(\d+(?:x\d+)*)|-(\d+))", text.strip().lower())
    generation = _ALIASES.get(found[1], found[1]) if found else ""
    if found is None or generation not in CHIPS:
        word = re.split(r"[:-]", text)[0]
        wanted = "" if found else ", expected a name such as v5p:4x4x4 or v5p-128"
        raise UserError(f"--topology={text}: no TPU generation {word!r}{nearest(word, CHIPS)}{wanted}")
    chip = CHIPS[generation]
    shapes = known_shapes(chip)
    chips: float
    if found[2]:
        shape = tuple(map(int, found[2].split("x")))
        chips = math.prod(shape)
        if shape in shapes:
            return Topology(chip, shape, slices)
    else:
        chips = int(found[3]) / chip.names_per_chip
        of_size = [shape for shape in shapes if math.prod(shape) == chips]
        if of_size:
            # The most compact one is what Google gives for a bare number.
            return Topology(chip, min(of_size, key=sum), slices)
    closest = min(shapes, key=lambda shape: abs(math.log(math.prod(shape) / max(chips, 0.5))))
    near = Topology(chip, closest)
    raise UserError(f"--topology={text}: no such slice (did you mean {near.name!r}, which is {near.slice_name}?)")


def known_shapes(chip: Chip) -> tuple[tuple[int, ...], ...]:
    """Returns the shapes in which slices of a generation come, by size."""
    if chip.dimensions == 2:
        return _FLAT
    sides = range(4, _LONGEST_SIDE + 1, 4)
    cubes = (
        shape
        for shape in itertools.combinations_with_replacement(sides, 3)
        if math.prod(shape) <= _LARGEST_CUBE[chip.generation]
    )
    return (*_SMALL_CUBES, *sorted(cubes, key=lambda shape: (math.prod(shape), sum(shape))))

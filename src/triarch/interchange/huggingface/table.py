"""Which tensor of a Hugging Face class is which parameter of ours, and what lies between them.

A family's table is a list of `TensorRule`s. All differences in shape come down to three things, each of which can be
undone without rounding: their matrices map inputs (columns) to outputs (rows), ours the other way round; they join
several matrices side by side in one, whole or head by head; they keep axes of length one. Layers are numbered in a name
by `{layer}`: where ours stand, single or stacked, `triarch.models.network.layer_place` says; experts by `{expert}`:
ours lie in one parameter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np

from triarch.errors import UserError
from triarch.models import MakeHead, ModelConfig
from triarch.models.network import ParameterSpec, Specs, layer_place, specs
from triarch.models.shape import Side

LAYER = "{layer}"
EXPERT = "{expert}"


@dataclasses.dataclass(frozen=True)
class TensorRule:
    """One line of a table: their tensor is made of our parameters.

    Attributes:
      theirs: name, with `{layer}` where there is one a layer, and `{expert}` where there is one an expert: ours hold
        all along the first axis of a layer.
      ours: names, `SIDE/{layer}/...` where there is one a layer; several lie side by side along our last axis.
      transposed: whether theirs is the transpose.
      ones: which axes of theirs are of length one and not there in ours.
      groups: in how many parts each of ours is cut, the first parts of all side by side before their second ones.
    """

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False
    ones: tuple[int, ...] = ()
    groups: int = 1


def same(theirs: str, *ours: str) -> TensorRule:
    """Vectors, tables of embeddings, and matrices that map rows to columns as ours do."""
    return TensorRule(theirs, ours)


def transposed(theirs: str, *ours: str) -> TensorRule:
    """The weight of a torch `Linear`."""
    return TensorRule(theirs, ours, transposed=True)


def linear(theirs: str, *ours: str, groups: int = 1) -> tuple[TensorRule, TensorRule]:
    """Weight and bias of a torch `Linear`."""
    weight = TensorRule(f"{theirs}.weight", ours, transposed=True, groups=groups)
    return weight, TensorRule(f"{theirs}.bias", tuple(f"{name}_bias" for name in ours), groups=groups)


def norm(theirs: str, ours: str) -> tuple[TensorRule, TensorRule]:
    """Gain and bias of a norm."""
    return same(f"{theirs}.weight", f"{ours}/scale"), same(f"{theirs}.bias", f"{ours}/bias")


@dataclasses.dataclass(frozen=True)
class Slot:
    """One parameter of ours, or one layer's row of a stacked one.

    Attributes:
      leaf: name of the parameter.
      row: layer's index along the stacked axis; None: not stacked.
      shape: of this row, or of what it holds of one expert.
      expert: index of the expert whose part of the row it is; None: all of the row.
    """

    leaf: str
    row: int | None
    shape: tuple[int, ...]
    expert: int | None = None

    def of_row(self, row: np.ndarray) -> np.ndarray:
        """Returns this slot's part of its row."""
        return row if self.expert is None else row[self.expert]


@dataclasses.dataclass(frozen=True)
class Link:
    """A rule made out for one layer: their one tensor and the slots it is made of."""

    rule: TensorRule
    theirs: str
    slots: tuple[Slot, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Their tensor's shape."""
        *rest, _ = self.slots[0].shape
        shape = (*rest, sum(slot.shape[-1] for slot in self.slots))
        shape = shape[::-1] if self.rule.transposed else shape
        for axis in self.rule.ones:
            shape = (*shape[:axis], 1, *shape[axis:])
        return shape

    @property
    def keeps_rows(self) -> bool:
        """Whether each row of theirs is one row of ours."""
        return not self.rule.transposed and not self.rule.ones and len(self.slots) == 1

    @property
    def has_experts(self) -> bool:
        """Whether theirs is of one expert of several."""
        return self.slots[0].expert is not None

    def piece(self, tensor: np.ndarray, index: int) -> np.ndarray:
        """Returns what their tensor, or some of its rows, holds of slot `index`, as a view where it can be."""
        tensor = tensor.squeeze(self.rule.ones) if self.rule.ones else tensor
        tensor = tensor.T if self.rule.transposed else tensor
        if len(self.slots) == 1:
            return tensor
        groups, shape = self.rule.groups, self.slots[index].shape
        start = sum(slot.shape[-1] for slot in self.slots[:index]) // groups
        grouped = tensor.reshape(*tensor.shape[:-1], groups, -1)
        return grouped[..., start : start + shape[-1] // groups].reshape(shape)

    def joined(self, pieces: Sequence[np.ndarray]) -> np.ndarray:
        """Returns their tensor, made of one piece a slot."""
        if len(pieces) == 1:
            tensor = pieces[0]
        else:
            grouped = [piece.reshape(*piece.shape[:-1], self.rule.groups, -1) for piece in pieces]
            tensor = np.concatenate(grouped, axis=-1).reshape(*pieces[0].shape[:-1], -1)
        tensor = tensor.T if self.rule.transposed else tensor
        return np.expand_dims(tensor, self.rule.ones) if self.rule.ones else tensor


def links(
    config: ModelConfig, rules: Sequence[TensorRule], where: str, make_head: MakeHead | None = None
) -> list[Link]:
    """Makes out every rule for the parameters that the network of `config` and its head have, layer by layer.

    A rule for parameters that this network does not have (biases, say) is passed over.

    Raises:
      UserError: a parameter of the network has no rule: `where` cannot hold it.
    """
    shapes = specs(config, make_head)
    found = [link for rule in rules for link in _made_out(config, shapes, rule)]
    covered = {slot.leaf for link in found for slot in link.slots}
    for name, spec in shapes.items():
        if name not in covered:
            raise UserError(f"{where} has no tensor for our parameter {name!r} {list(spec.shape)}")
    return found


def _made_out(config: ModelConfig, shapes: Specs, rule: TensorRule) -> Iterator[Link]:
    if LAYER not in rule.theirs:
        if all(name in shapes for name in rule.ours):
            yield Link(rule, rule.theirs, tuple(Slot(name, None, shapes[name].shape) for name in rule.ours))
        return
    side: Any = rule.ours[0].split("/")[0]
    for layer in range(config.num_layers(side)):
        places = [_place(config, name, layer) for name in rule.ours]
        if all(leaf in shapes for leaf, _ in places):
            has_experts = _has_experts(shapes[places[0][0]], places[0][1])
            if has_experts != (EXPERT in rule.theirs) and (rule.transposed or EXPERT in rule.theirs):
                continue
            slots = tuple(Slot(leaf, row, shapes[leaf].shape[0 if row is None else 1 :]) for leaf, row in places)
            theirs = rule.theirs.replace(LAYER, str(layer))
            if EXPERT not in theirs:
                yield Link(rule, theirs, slots)
                continue
            for expert in range(slots[0].shape[0]):
                parts = (dataclasses.replace(slot, shape=slot.shape[1:], expert=expert) for slot in slots)
                yield Link(rule, theirs.replace(EXPERT, str(expert)), tuple(parts))


def _has_experts(spec: ParameterSpec, row: int | None) -> bool:
    """Whether what a parameter, or its row, holds of a layer is of experts, one after another."""
    return spec.axes[0 if row is None else 1 :][:1] == ("experts",)


def _place(config: ModelConfig, name: str, layer: int) -> tuple[str, int | None]:
    """Returns the parameter that holds a layer's, and its row there if it is stacked."""
    side, _, rest = name.split("/", 2)
    module, row = layer_place(config, cast(Side, side), layer)
    return f"{module}/{rest}", row

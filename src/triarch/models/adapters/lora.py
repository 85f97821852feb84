"""Which kernels of a network are adapted, and how: part of a run's config. Imports no jax."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from triarch.errors import UserError, nearest
from triarch.fields import Positive, Size, check

if TYPE_CHECKING:
    from triarch.models.network import Specs

BaseType = Literal["float32", "int8", "nf4"]


@dataclasses.dataclass(frozen=True)
class LoRA:
    """Low-rank adapters (arXiv 2106.09685): x W becomes x W + (alpha / rank) x A B, and A and B alone are trained.

    A begins as peft has it, B at zero. The base is the run or export of `RunConfig.init_from`.

    Attributes:
      rank: width of x A.
      alpha: the update's factor is alpha / rank.
      targets: kernels, as in `RunConfig.train_only`: "kernel" for all, names or their first parts, "*" for any
        characters, as ("*/query", "*/value"). Adapters go with layers that are scanned or not.
      base: type in which the kernels of layers are held, adapted or not: "int8" with a scale for 64 numbers, or "nf4",
        QLoRA's 4 bits (arXiv 2305.14314). Kernels whose inputs are no multiple of 64 stay float32.
    """

    rank: Size
    alpha: Positive
    targets: tuple[str, ...]
    base: BaseType = "float32"

    @property
    def scale(self) -> float:
        """The update's factor."""
        return self.alpha / self.rank

    def validate(self) -> None:
        """Raises UserError, naming the field, for values that make no adapters of any network."""
        if not self.targets or isinstance(self.targets, str):
            raise UserError(f"LoRA.targets = {self.targets!r}: expected kernels, as ('*/query', '*/value')")
        check(self)

    def adapted(self, specs: Specs) -> list[str]:
        """Returns the names of the kernels that have adapters, sorted.

        Args:
          specs: of the network without adapters.

        Raises:
          UserError: a target names no kernel of a layer.
        """
        # What builds a network takes most of a second to import.
        from triarch.models.network import named, patterns

        kernels = {name: spec for name, spec in specs.items() if is_layers_kernel(name, spec)}
        found: set[str] = set()
        for target in self.targets:
            matching = named(kernels, target)
            if not matching:
                ends = (f"*/{name.rpartition('/')[2]}" for name in kernels)
                near = nearest(target, [*ends, *(name for name in patterns(kernels) if name not in _KINDS_BUT_KERNELS)])
                others = named(specs, target)
                what = "no kernel of this network's layers" if not others else f"{min(others)}, which is no kernel"
                raise UserError(f"LoRA.targets: {target!r} names {what}{near}")
            found |= matching
        return sorted(found)


_KINDS_BUT_KERNELS = ("vector", "table", "adapter")


def is_layers_kernel(name: str, spec: Any) -> bool:
    """Whether a parameter is a matrix within a stack, or several of them."""
    inside = name.startswith(("encoder/", "decoder/"))
    return inside and spec.kind == "kernel" and len(spec.shape) - spec.stacked >= 2


def read_lora(fields: Mapping[str, Any] | None, where: str) -> LoRA | None:
    """Returns the adapters that a run's config.json tells of; None for none.

    Args:
      fields: its "adapter".
      where: what holds them, for the message.

    Raises:
      UserError: they are damaged.
    """
    if fields is None:
        return None
    own = {key: value for key, value in fields.items() if key != "class"}
    targets = own.get("targets")
    try:
        if isinstance(targets, list) and all(isinstance(target, str) for target in targets):
            lora = LoRA(**{**own, "targets": tuple(targets)})
            lora.validate()
            return lora
    except (TypeError, UserError) as error:
        raise UserError(f"{where}: adapter: {error}") from None
    raise UserError(f"{where}: adapter: targets is no list of names")

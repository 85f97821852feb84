"""What a run with adapters must be, told from its config alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.training.config import RunConfig


def check_adapter(config: RunConfig) -> None:
    """Makes sure that a run's adapters are those of its network and go with the rest of its config.

    Raises:
      UserError: naming what does not.
    """
    # What builds a network takes most of a second to import.
    from triarch.models.network import specs

    adapter = config.adapter
    if adapter is None:
        return
    adapter.validate()
    for field in ("train_only", "frozen"):
        if getattr(config, field):
            raise UserError(f"RunConfig.{field}: with RunConfig.adapter, adapters alone are trained: expected ()")
    if config.init_optimizer:
        raise UserError("RunConfig.init_optimizer: adapters have no optimizer state in the run that they begin from")
    known = specs(config.model)
    adapted = adapter.adapted(known)
    of_experts = [name for name in adapted if "experts" in known[name].axes]
    if config.dropout.adapter and of_experts:
        raise UserError(
            f"Dropout.adapter = {config.dropout.adapter!r}: adapters of experts ({of_experts[0]}) have no dropout: "
            "leave them out of LoRA.targets"
        )


def check_base(config: RunConfig) -> None:
    """Raises UserError where adapters have no parameters to go with."""
    if config.adapter is not None and config.init_from is None:
        raise UserError("RunConfig.adapter: adapters of what? set RunConfig.init_from to a run or an export")

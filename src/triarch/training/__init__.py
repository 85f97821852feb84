"""Training: optimizers, schedules, state and step, the loop, checkpoints, metrics, progress."""

from typing import Any

from triarch.training.config import CheckpointConfig, DataConfig, RunConfig

__all__ = ["CheckpointConfig", "DataConfig", "RunConfig", "train"]


def __getattr__(name: str) -> Any:
    # Orbax and Grain take more than a second to import, and a config, a plan or a report needs neither.
    if name == "train":
        from triarch.training.loop import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""T5X checkpoints in: a msgpack index with zarr arrays beside it, without t5x or flaxformer."""

from triarch.interchange.t5x.importing import (
    OpenedCheckpoint,
    is_checkpoint,
    newest_within,
    open_checkpoint,
    write_import,
)
from triarch.interchange.t5x.network import Said

__all__ = ["OpenedCheckpoint", "Said", "is_checkpoint", "newest_within", "open_checkpoint", "write_import"]

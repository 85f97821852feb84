"""What a run reads."""

from __future__ import annotations

import dataclasses

from triarch.data.mixture import StoreMixture
from triarch.fields import Size


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What a run reads.

    Attributes:
      window: tokens an example, which must be what the store holds.
      store: folder of the token store, or a mixture of several; a recipe may leave it open, a run may not.
      train_split: trained on.
      validation_split: evaluated on during the run.
      num_threads: reading ahead.
      prefetch: batches kept ready.
      pack_batches: of a store of pairs, whether the examples of each batch share rows in which they do not see each
        other: the same examples and losses as with one a row, in a fraction of the time where most are short.
    """

    window: Size
    store: str | StoreMixture | None = None
    train_split: str = "train"
    validation_split: str = "validation"
    num_threads: Size = 2
    prefetch: Size = 4
    pack_batches: bool = False

"""Which split a document belongs to: a function of its key alone."""

from __future__ import annotations

import hashlib

from triarch.errors import UserError

TRAIN = "train"
VALIDATION = "validation"
DEFAULT_VALIDATION_FRACTION = 0.05


def split_of(key: str, validation_fraction: float) -> str:
    """Returns "validation" for about `validation_fraction` of all keys, "train" for the others.

    The same key is in the same split on every machine, and stays in "validation" when the fraction grows.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return VALIDATION if int.from_bytes(digest, "big") < validation_fraction * 2**64 else TRAIN


def split_names(validation_fraction: float) -> tuple[str, ...]:
    """Returns the splits that a store with this fraction has.

    Raises:
      UserError: the fraction is not between 0 and 1.
    """
    if not 0 <= validation_fraction <= 1:
        raise UserError(f"validation_fraction={validation_fraction}: expected a number from 0 to 1")
    if validation_fraction == 0:
        return (TRAIN,)
    return (VALIDATION,) if validation_fraction == 1 else (TRAIN, VALIDATION)

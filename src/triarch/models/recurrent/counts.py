"""Operations of a recurrence that is computed in chunks."""

from __future__ import annotations


def decayed_flops(
    length: int, heads: int, groups: int, value_dim: int, key_dim: int, chunk_size: int, seen: bool
) -> float:
    """Returns operations of the products of `triarch.models.recurrent.decayed`: 2 per multiply-add.

    Args:
      length: tokens.
      heads: of values.
      groups: of keys and queries.
      value_dim: width of a value.
      key_dim: width of a key.
      chunk_size: tokens of a chunk.
      seen: whether to count within chunks only those pairs of tokens that see each other, not all.
    """
    whole, rest = divmod(length, chunk_size)
    sizes = [(whole, chunk_size), (1, rest)]
    pairs = sum(count * (size * (size + 1) / 2 if seen else size**2) for count, size in sizes)
    states = 4 * length * heads * value_dim * key_dim if length > chunk_size else 0
    return 2 * pairs * (groups * key_dim + heads * value_dim) + states

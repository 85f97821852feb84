"""Products of groups of rows, each with a kernel of its own, whose gradients cost what the groups do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from triarch.models.precision import at_least_float32

# Rows that are multiplied at once for the gradients of kernels. An even share is cut into so many blocks that the last
# one of each group, which is not full, adds little.
_BLOCKS, _LEAST, _MOST = 16, 128, 512


@jax.custom_vjp
def grouped_product(
    rows: Float[Array, "rows inner"], kernels: Float[Array, "groups inner outer"], sizes: Int[Array, " groups"]
) -> Float[Array, "rows outer"]:
    """Returns the product of each row with the kernel of its group; zeros for rows after the last group.

    XLA's own gradient of the kernels multiplies all rows for every group and masks them; here each row is multiplied
    once.

    Args:
      rows: those of the first group first, and so on.
      kernels: of the groups.
      sizes: rows of each group.
    """
    return jax.lax.ragged_dot(rows, kernels, sizes)


def _forward(rows: Array, kernels: Array, sizes: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    return jax.lax.ragged_dot(rows, kernels, sizes), (rows, kernels, sizes)


def _backward(saved: tuple[Array, Array, Array], slope: Array) -> tuple[Array, Array, None]:
    rows, kernels, sizes = saved
    row_slopes = jax.lax.ragged_dot(slope, kernels.swapaxes(1, 2), sizes)
    return row_slopes.astype(rows.dtype), _kernel_slopes(rows, slope, sizes).astype(kernels.dtype), None


grouped_product.defvjp(_forward, _backward)


def block_size(num_rows: int, num_groups: int) -> int:
    """Returns how many rows are multiplied at once."""
    share = num_rows // (_BLOCKS * num_groups)
    return min(num_rows, max(_LEAST, min(_MOST, share // _LEAST * _LEAST)))


def _kernel_slopes(
    rows: Float[Array, "rows inner"], slopes: Float[Array, "rows outer"], sizes: Int[Array, " groups"]
) -> Float[Array, "groups inner outer"]:
    """Returns rows^T slopes of each group, block by block; a block holds rows of one group."""
    num_rows, groups, wide = len(rows), len(sizes), at_least_float32(rows.dtype)
    size = block_size(num_rows, groups)
    blocks = -(-sizes // size)
    last, ends = jnp.cumsum(blocks), jnp.cumsum(sizes)

    def add(block: Array, total: Array) -> Array:
        group = jnp.minimum(jnp.searchsorted(last, block, side="right"), groups - 1)
        begin = ends[group] - sizes[group] + (block - last[group] + blocks[group]) * size
        # A block that would end after the last row begins earlier, with rows of another that do not count.
        first = jnp.clip(begin, 0, num_rows - size)
        places = first + jnp.arange(size)
        counts = (places >= begin) & (places < ends[group])
        taken = jax.lax.dynamic_slice_in_dim(rows, first, size)
        given = jnp.where(counts[:, None], jax.lax.dynamic_slice_in_dim(slopes, first, size), 0)
        return total.at[group].add(jnp.einsum("ri,ro->io", taken, given, preferred_element_type=wide))

    # No group has more than one block that is not full.
    count = num_rows // size + groups
    total = jnp.zeros((groups, rows.shape[1], slopes.shape[1]), wide)
    return jax.lax.fori_loop(0, count, add, total)

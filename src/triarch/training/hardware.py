"""Peak speeds of known accelerators, for model FLOPs utilisation."""

from __future__ import annotations

import jax

# Dense bfloat16 FLOP/s of one jax device, from the vendors' data sheets, by a part of `device_kind` in lower case.
# The first match counts.
_PEAKS = (
    ("tpu v6", 918e12),
    ("tpu v5p", 459e12),
    ("tpu v5 lite", 197e12),
    ("tpu v5e", 197e12),
    ("tpu v5", 459e12),
    ("tpu v4 lite", 138e12),
    ("tpu v4", 275e12),
    ("h100 pcie", 756e12),
    ("h100", 989e12),
    ("h200", 989e12),
    ("a100", 312e12),
)


def peak_flops(device: jax.Device) -> float | None:
    """Returns the peak bfloat16 FLOP/s of a device, or None where it is not known (such as a CPU)."""
    kind = device.device_kind.lower()
    return next((peak for name, peak in _PEAKS if name in kind), None)

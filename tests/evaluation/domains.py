"""Token stores to evaluate tiny networks on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from triarch.data.manifest import Split, StoreManifest, Vocabulary
from triarch.data.store import TokenStore
from triarch.data.token_bytes import TokenBytes
from triarch.data.writer import StoreWriter
from triarch.evaluation import Domain
from triarch.objectives import SpecialTokens

VOCAB_SIZE = 61
WINDOW = 12
SPECIAL = {"pad": 0, "bos": 1, "eos": 2, "mask": 3}
FINGERPRINT = "ab" * 32
TOKEN_BYTES = np.array([0] * 4 + [1 + i % 5 for i in range(VOCAB_SIZE - 4)], np.uint16)
BYTES = TokenBytes.fixed(TOKEN_BYTES)


def random_windows(count: int, window: int = WINDOW, seed: int = 0) -> np.ndarray:
    """Returns int32[count, window]; ids include end-of-document and, as text may, even padding."""
    return np.random.default_rng(seed).integers(0, VOCAB_SIZE, (count, window), dtype=np.int32)


def write_domain(
    path: Path,
    windows: np.ndarray,
    role: str = "in_domain",
    special: dict | None = None,
    fingerprint: str = FINGERPRINT,
    segments: np.ndarray | None = None,
    lengths: dict[str, int] | None = None,
    layout: str | None = None,
) -> Domain:
    """Writes a store whose split "validation" holds `windows`; packed with `segments`, of pairs with `lengths` too."""
    layout = layout or ("windows" if segments is None else "packed" if lengths is None else "pairs")
    with StoreWriter(path, windows.shape[1], "uint16", segments=segments is not None) as writer:
        writer.write("validation", windows, segments)
        num_bytes = int(TOKEN_BYTES[windows].sum())
        split = Split(len(windows), len(windows), windows.size, 0, num_bytes, writer.finish_files("validation"))
        vocabulary = Vocabulary("bytes", VOCAB_SIZE, fingerprint, SPECIAL if special is None else special)
        splits = {"validation": split}
        manifest = StoreManifest(path.name, layout, windows.shape[1], "uint16", vocabulary, splits, {}, lengths)
        writer.finish(manifest, BYTES)
    return Domain(TokenStore.open(path), role)


def special_tokens() -> SpecialTokens:
    """Returns the special tokens of these stores."""
    return SpecialTokens(**SPECIAL)

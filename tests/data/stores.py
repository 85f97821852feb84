"""Small token stores for tests, written without the tasks room."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from triarch.data.manifest import Split, StoreManifest, Vocabulary
from triarch.data.store import TokenStore
from triarch.data.token_bytes import TokenBytes
from triarch.data.writer import StoreWriter

VOCAB_SIZE = 100


def write_store(
    path: Path, windows: np.ndarray, dtype: str = "uint16", file_tokens: int = 2**20, **writer
) -> TokenStore:
    """Writes `windows` (int[examples, window]) as the split "train" of a store at `path`."""
    with StoreWriter(path, windows.shape[1], dtype, file_tokens=file_tokens, **writer) as store:
        store.write("train", windows[: len(windows) // 2])
        store.write("train", windows[len(windows) // 2 :])
        files = store.finish_files("train")
        split = Split(len(windows), len(windows), windows.size, 0, windows.size, files)
        special = {"pad": 0, "bos": 0, "eos": 1, "mask": None}
        vocabulary = Vocabulary("bytes", VOCAB_SIZE, "0" * 64, special)
        manifest = StoreManifest("test", "windows", windows.shape[1], dtype, vocabulary, {"train": split}, {})
        store.finish(manifest, TokenBytes.fixed(np.arange(VOCAB_SIZE)))
    return TokenStore.open(path)


def numbered_windows(examples: int, window: int = 8) -> np.ndarray:
    """Returns int32[examples, window] in which no two tokens are equal."""
    return np.arange(examples * window, dtype=np.int32).reshape(examples, window)

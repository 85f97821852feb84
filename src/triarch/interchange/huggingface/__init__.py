"""Hugging Face folders in and out: config.json, safetensors and tokenizer files, without torch or transformers."""

from triarch.interchange.huggingface.exporting import MAX_SHARD_BYTES, choose_family, num_bytes, write_huggingface
from triarch.interchange.huggingface.families import FAMILIES
from triarch.interchange.huggingface.importing import OpenedFolder, open_folder, write_import
from triarch.interchange.huggingface.in_memory import read_folder

__all__ = [
    "FAMILIES",
    "MAX_SHARD_BYTES",
    "OpenedFolder",
    "choose_family",
    "num_bytes",
    "open_folder",
    "read_folder",
    "write_huggingface",
    "write_import",
]

"""`triarch import`: a Hugging Face folder as an export of ours."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from triarch.cli.outputs import check_new_folder
from triarch.errors import UserError

HELP = """Takes a model from a Hugging Face folder (config.json and safetensors) as an export, which `triarch evaluate`
and `triarch.load` read like any other; parameters keep the types that they have. Known are BERT, ModernBERT, Ettin,
GPT-2, Llama 1 to 3.2, SmolLM2, T5 1.0 and 1.1, BART, T5Gemma, and what `triarch export --format=huggingface` writes.

The export also holds the tokenizer's files, and model.gin, which describes the network to `triarch train`."""
EXAMPLE = """  triarch import SmolLM2-135M --output=exports/smollm2_135m
  triarch prepare --task=files --files=prose --vocabulary=SmolLM2-135M --output=stores/prose
  triarch evaluate --model=exports/smollm2_135m --in_domain=stores/prose
  triarch train --gin_file=runs/smollm2.gin --gin_file=exports/smollm2_135m/model.gin --workdir=runs/tuned \\
      --gin.RunConfig.init_from=exports/smollm2_135m --gin.DataConfig.store=stores/prose"""

MODEL_GIN = "model.gin"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch import`."""
    add = parser.add_argument
    add("folder", type=Path, metavar="HF_FOLDER", help="folder with config.json, *.safetensors and a tokenizer's files")
    add("--output", required=True, type=Path, metavar="DIR", help="folder to make")
    add("--overwrite", action="store_true", help="replace an export that is at --output")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the export and prints what it holds.

    Raises:
      UserError: the folder is no Hugging Face model, its family or an option in use has no equivalent, its tensors are
        not those of its config, or the output cannot be written.
    """
    from triarch.cli.gin_files import render
    from triarch.interchange.export import VOCABULARY
    from triarch.interchange.huggingface import open_folder, write_import
    from triarch.progress import Progress

    check_new_folder("output", args.output, args.overwrite)
    opened = open_folder(args.folder)
    vocabulary, save_tokenizer = _tokenizer(args.folder)

    def fill(making: Path) -> None:
        save_tokenizer(making / VOCABULARY)
        (making / MODEL_GIN).write_text(render(opened.config), encoding="utf-8")

    with Progress(show=True) as progress:
        progress.start(f"import {args.folder.name}", opened.num_bytes)
        manifest = write_import(
            opened,
            args.output,
            vocabulary=vocabulary,
            fill=fill,
            overwrite=args.overwrite,
            advance=lambda num_bytes: progress.advance(num_bytes),
        )
    config = manifest.config
    dtypes = sorted({tensor.dtype for tensor in manifest.tensors.values()})
    what = f"{opened.family.class_name}, {config.architecture}, {config.num_params():,} parameters"
    print(f"{args.output}: {what} in {', '.join(dtypes)}, fingerprint {manifest.fingerprint[:12]}")
    if opened.left_out:
        print(f"left out, being no part of the network: {', '.join(opened.left_out)}")
    for note in opened.notes:
        print(note)
    return {
        "output": str(args.output),
        "family": opened.family.name,
        "class": opened.family.class_name,
        "architecture": config.architecture,
        "num_params": config.num_params(),
        "dtypes": dtypes,
        "left_out": list(opened.left_out),
        "notes": list(opened.notes),
        "vocabulary": vocabulary,
        "fingerprint": manifest.fingerprint,
    }


def _tokenizer(folder: Path) -> tuple[dict[str, Any] | None, Callable[[Path], None]]:
    """Returns what is to be said of the folder's vocabulary, if it has one that can be read, and what saves it."""
    try:
        from triarch.tokenizers import given_tokenizer

        tokenizer = given_tokenizer(folder)
        return dataclasses.asdict(tokenizer.info), tokenizer.save
    except UserError as error:
        reason = str(error)
    except ImportError as error:
        reason = f"{error.name} is not installed (pip install 'triarch[tasks]')"
    print(f"triarch import: without a vocabulary: {reason}", file=sys.stderr)
    return None, lambda making: None

"""`triarch import`: a Hugging Face folder or a T5X checkpoint as an export of ours."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli.outputs import check_new_folder
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.interchange import ExportManifest

HELP = """Takes a model from a Hugging Face folder (config.json and safetensors) as an export, which `triarch evaluate`
and `triarch.load` read like any other; parameters keep the types that they have. Known are BERT, ModernBERT, Ettin,
GPT-2, Llama 1 to 3.2, SmolLM2, T5 1.0 and 1.1, UMT5, BART, T5Gemma, and what `triarch export
--format=huggingface` writes.

Or takes a checkpoint of T5X (checkpoint_STEP, with the msgpack file `checkpoint` and its zarr arrays): T5 1.0 and 1.1,
layer by layer or scanned, without the optimizer's state. The network is read from the arrays' shapes and from the run's
config.gin, as data, if that is beside the checkpoint; the vocabulary is to be named.

The export also holds the tokenizer's files, and model.gin, which describes the network to `triarch train`."""
EXAMPLE = """  triarch import SmolLM2-135M --output=exports/smollm2_135m
  triarch prepare --task=files --files=prose --vocabulary=SmolLM2-135M --output=stores/prose
  triarch evaluate --model=exports/smollm2_135m --in_domain=stores/prose
  triarch train --gin_file=runs/smollm2.gin --gin_file=exports/smollm2_135m/model.gin --workdir=runs/tuned \\
      --gin.RunConfig.init_from=exports/smollm2_135m --gin.DataConfig.store=stores/prose
  triarch import t5_1_1_base/checkpoint_1000000 --vocabulary=sentencepiece.model --output=exports/t5_1_1_base
  triarch import hf/my_lora --base=exports/smollm2_135m --output=exports/smollm2_mine"""

MODEL_GIN = "model.gin"
_ADAPTER_CONFIG = "adapter_config.json"
# Of T5's vocabularies, which T5X's runs have.
_SENTINELS = 100

Vocabulary = tuple[dict[str, Any] | None, Callable[[Path], None]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch import`."""
    add = parser.add_argument
    add(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="with config.json, *.safetensors and a tokenizer's files; or a T5X checkpoint",
    )
    add("--output", required=True, type=Path, metavar="DIR", help="folder to make")
    add(
        "--vocabulary",
        type=Path,
        metavar="FILE",
        help=f"of a T5X checkpoint: its sentencepiece.model, which gets {_SENTINELS} sentinels if it has none",
    )
    add("--t5x_gin", type=Path, metavar="FILE", help="of a T5X checkpoint: gin that binds T5Config (else config.gin)")
    add("--base", type=Path, metavar="DIR", help="of a folder of peft's adapters: the run or export they go with")
    add("--overwrite", action="store_true", help="replace an export that is at --output")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the export and prints what it holds.

    Raises:
      UserError: the folder is neither a Hugging Face model nor a T5X checkpoint, its family or an option in use has no
        equivalent, its tensors are not those of its config, or the output cannot be written.
    """
    from triarch.cli.gin.files import render
    from triarch.interchange.export import VOCABULARY
    from triarch.progress import Progress

    check_new_folder("output", args.output, args.overwrite)
    if args.base is not None:
        return _import_adapters(args)
    if (args.folder / _ADAPTER_CONFIG).is_file() and not (args.folder / "config.json").is_file():
        raise UserError(f"{args.folder}: holds peft's adapters: name what they go with, as --base=exports/model")
    opened, write, (vocabulary, save_tokenizer) = _open(args)

    def fill(making: Path) -> None:
        if vocabulary is not None:
            (making / VOCABULARY).mkdir(exist_ok=True)
            save_tokenizer(making / VOCABULARY)
        (making / MODEL_GIN).write_text(render(opened.config), encoding="utf-8")

    with Progress(show=True) as progress:
        progress.start(f"import {args.folder.name}", opened.num_bytes)
        manifest = write(
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


def _import_adapters(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the sums of adapters and their base."""
    from triarch.interchange.huggingface.peft_importing import write_with_peft
    from triarch.loading import open_stored

    for flag in ("vocabulary", "t5x_gin"):
        if getattr(args, flag) is not None:
            raise UserError(f"--{flag} goes with a T5X checkpoint, and --base with a folder of peft's adapters")
    manifest = write_with_peft(args.folder, open_stored(args.base), args.output, args.overwrite)
    config = manifest.config
    what = f"{config.architecture}, {config.num_params():,} parameters of {args.base} with the adapters added"
    print(f"{args.output}: {what}, fingerprint {manifest.fingerprint[:12]}")
    return {
        "output": str(args.output),
        "base": str(args.base),
        "architecture": config.architecture,
        "num_params": config.num_params(),
        "fingerprint": manifest.fingerprint,
    }


def _open(args: argparse.Namespace) -> tuple[Any, Callable[..., ExportManifest], Vocabulary]:
    """Returns what the folder holds, what writes it as an export, and its vocabulary."""
    from triarch.interchange import huggingface, t5x

    if t5x.is_checkpoint(args.folder):
        from triarch.cli.gin.t5x_gin import said_beside, said_by

        said = said_beside(args.folder) if args.t5x_gin is None else said_by(args.t5x_gin)
        checkpoint = t5x.open_checkpoint(args.folder, said)
        return checkpoint, t5x.write_import, _given_vocabulary(args.vocabulary, checkpoint.config.vocab_size)
    newest = t5x.newest_within(args.folder)
    if newest is not None:
        raise UserError(f"{args.folder}: the folder of a T5X run: name one of its checkpoints, such as {newest}")
    for flag in ("vocabulary", "t5x_gin"):
        if getattr(args, flag) is not None:
            raise UserError(f"--{flag} goes with a T5X checkpoint, and {args.folder} is none")
    return huggingface.open_folder(args.folder), huggingface.write_import, _tokenizer(args.folder)


def _given_vocabulary(path: Path | None, vocab_size: int) -> Vocabulary:
    """Returns what is to be said of the vocabulary that the user named, and what saves it.

    Raises:
      UserError: it cannot be read, or has more ids than the network.
    """
    if path is None:
        print("triarch import: without a vocabulary: name its sentencepiece.model with --vocabulary", file=sys.stderr)
        return None, lambda making: None
    try:
        from triarch.tokenizers import ExtraIds, given_tokenizer, with_extra_ids
    except ImportError as error:
        raise UserError(f"--vocabulary={path}: {error.name} is not installed (pip install 'triarch[tasks]')") from None
    tokenizer = given_tokenizer(path)
    if "sentinels" not in tokenizer.info.special:
        tokenizer = with_extra_ids(tokenizer, ExtraIds(sentinels=_SENTINELS))
    size = tokenizer.info.size
    if size > vocab_size:
        raise UserError(f"--vocabulary={path}: has {size:,} ids with its sentinels, the network has {vocab_size:,}")
    return dataclasses.asdict(tokenizer.info), tokenizer.save


def _tokenizer(folder: Path) -> Vocabulary:
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

"""`triarch export`: a run's parameters in a folder that describes itself, or for Hugging Face."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli import steps
from triarch.cli.exporting import embedder as export_embedder
from triarch.cli.exporting import series as export_series
from triarch.cli.outputs import check_folder, check_new_folder
from triarch.cli.processes import first_alone
from triarch.errors import UserError, nearest

if TYPE_CHECKING:
    from triarch.interchange import Origin

HELP = """Writes a run's parameters, without optimizer state, as a self-describing Orbax checkpoint or, with
--format=huggingface, as config.json, safetensors and tokenizer files. Of a run with RunConfig.adapter, --format=peft
writes the adapters, which peft loads onto the exported base, and --merge_adapter lets the other formats write the sums.

--format=sentence_transformers adds how texts become vectors, for SentenceTransformer to load.

The class of transformers is found from the network. RedLLM and DecLLM, which it lacks, take a PyTorch file along that
AutoModelForSeq2SeqLM and AutoModelForCausalLM load with trust_remote_code=True. What that file does not hold either (a
recurrence, say) is written in a layout that README.md describes and `triarch import` reads. Started on all hosts of a
slice, the first one writes, and none needs its accelerator.

With --step=all, or several as 1000,2000, --output holds a folder step-N of each of these checkpoints; started again,
the export goes on with those that are not there yet.

README.md is a model card made from the run's own record: architecture, counts, data, tokens, losses, how to load."""
EXAMPLE = """  triarch export --workdir=runs/redllm_small --output=exports/redllm_small --dtype=bfloat16
  triarch export --workdir=runs/llama_small --output=hf/llama_small --format=huggingface
  triarch export --workdir=runs/retriever --output=st/retriever --format=sentence_transformers --prompt='query=query: '
  triarch export --workdir=runs/llama_small --output=hf/llama_by_step --format=huggingface --step=all
  triarch export --workdir=runs/llama_adapted --output=hf/llama_adapter --format=peft"""

FORMATS = ("orbax", "huggingface", export_embedder.FORMAT, "peft")
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch export`."""
    add = parser.add_argument
    add("--workdir", required=True, type=Path, metavar="RUN", help="the run (or an export, to change type or format)")
    add("--output", required=True, type=Path, metavar="DIR", help="folder to make")
    add("--format", default="orbax", help=f"{', '.join(FORMATS)} (default: %(default)s)")
    add("--dtype", help="float32, bfloat16 or float16 (default: float32; with huggingface the type of each tensor)")
    add(
        "--step",
        type=steps.one_or_several,
        metavar="STEP",
        help=f"{steps.HELP}; several, as 1000,2000, or 'all': a folder step-N of each",
    )
    add("--family", help="with huggingface: the class to write for, e.g. llama, redllm, or triarch for its own layout")
    add("--max_shard_size", default="5GB", help="with huggingface: of one safetensors file (default: %(default)s)")
    add("--merge_adapter", action="store_true", help="of a run with RunConfig.adapter: write the sums with its base")
    add("--overwrite", action="store_true", help="replace what an earlier export left at --output")
    export_embedder.add_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Writes the export and prints what it holds, in the first of several processes.

    Raises:
      UserError: the run has no whole checkpoint, the network cannot be expressed, or the output cannot be written.
    """
    if args.format not in FORMATS:
        raise UserError(f"--format={args.format}: no such format{nearest(args.format, FORMATS)}")
    if args.format not in ("huggingface", export_embedder.FORMAT) and args.family is not None:
        raise UserError("--family goes with --format=huggingface")
    if args.format != export_embedder.FORMAT:
        export_embedder.refuse_flags(args)
    in_series = steps.several(args.step)
    if in_series:
        check_folder("output", args.output)
    else:
        check_new_folder("output", args.output, args.overwrite)
    _check_adapter(args)
    if not first_alone():
        return None
    return export_series.write(args, _write) if in_series else _write(args)


def _write(args: argparse.Namespace) -> dict[str, Any]:
    if args.format in ("huggingface", export_embedder.FORMAT):
        return _write_huggingface(args)
    if args.format == "peft":
        return _write_peft(args)
    return _write_orbax(args)


def _check_adapter(args: argparse.Namespace) -> None:
    """Makes sure that a run of adapters is not written as whole parameters unasked, and no other as one."""
    from triarch.loading import is_adapted

    if args.merge_adapter and not is_adapted(args.workdir):
        raise UserError(f"--merge_adapter: {args.workdir} has no adapters (RunConfig.adapter)")
    if args.format == "peft":
        if args.merge_adapter or args.dtype is not None:
            flag = "--merge_adapter" if args.merge_adapter else "--dtype"
            raise UserError(f"{flag} does not go with --format=peft, which writes adapters alone, in float32")
        if not is_adapted(args.workdir):
            raise UserError(f"--format=peft: {args.workdir} has no adapters (RunConfig.adapter)")
    elif not args.merge_adapter and is_adapted(args.workdir):
        raise UserError(
            f"{args.workdir}: a run of adapters: say --format=peft, or --merge_adapter to write their sums with the "
            "parameters that they go with"
        )


def _write_orbax(args: argparse.Namespace) -> dict[str, Any]:
    from triarch.interchange import write_export
    from triarch.loading import load

    dtype = args.dtype or "float32"
    loaded = load(args.workdir, step=args.step)
    manifest = write_export(
        args.output,
        loaded.model,
        _with_record(loaded.origin, args.workdir),
        dtype=dtype,
        vocabulary_files=loaded.vocabulary_files,
        overwrite=args.overwrite,
        make_head=loaded.network.make_head,
    )
    config, step = manifest.config, manifest.origin.step
    what = f"{config.architecture}, {config.num_params():,} parameters in {dtype}, {_of_step(step)}"
    print(f"{args.output}: {what}, fingerprint {manifest.fingerprint[:12]}")
    return {
        "output": str(args.output),
        "format": args.format,
        "dtype": dtype,
        "step": step,
        "num_params": config.num_params(),
        "fingerprint": manifest.fingerprint,
    }


def _write_huggingface(args: argparse.Namespace) -> dict[str, Any]:
    from triarch.cli.exporting.tokenizer import tokenizer_files
    from triarch.interchange.huggingface import choose_family, num_bytes, write_huggingface
    from triarch.loading import open_stored
    from triarch.progress import Progress

    max_shard_bytes = _num_bytes(args.max_shard_size)
    model = open_stored(args.workdir, step=args.step)
    model = dataclasses.replace(model, origin=_with_record(model.origin, args.workdir))
    family = choose_family(model, args.family)
    size = num_bytes(model, family, args.dtype)
    tokenizer = tokenizer_files(model)
    if args.format == export_embedder.FORMAT:
        embedder = export_embedder.embedder_of(args, model)
        tokenizer = {**tokenizer, **export_embedder.files_of(model, embedder, family, tokenizer)}
    with Progress(show=True) as progress:
        progress.start(f"export {args.output.name}", size)
        write_huggingface(
            model,
            args.output,
            family,
            dtype=args.dtype,
            max_shard_bytes=max_shard_bytes,
            tokenizer=tokenizer,
            overwrite=args.overwrite,
            advance=lambda done: progress.advance(done),
        )
    config, step = model.config, model.origin.step
    what = f"{config.architecture}, {config.num_params():,} parameters, {size:,} bytes, {_of_step(step)}"
    print(f"{args.output}: {family.class_name}, {what}")
    return {
        "output": str(args.output),
        "format": args.format,
        "family": family.name,
        "class": family.class_name,
        "step": step,
        "num_params": config.num_params(),
        "bytes": size,
    }


def _with_record(origin: Origin, workdir: Path) -> Origin:
    """Returns where parameters come from with what the run recorded; of an export, as it is there."""
    from triarch.interchange.model_card import RECORD
    from triarch.training.record.fingerprint import CHECKPOINTS, CONFIG_JSON
    from triarch.training.record.summary import run_record

    if not ((workdir / CONFIG_JSON).is_file() and (workdir / CHECKPOINTS).is_dir()):
        return origin
    assert origin.step is not None  # It is of a checkpoint of the run.
    return dataclasses.replace(origin, source={**(origin.source or {}), RECORD: run_record(workdir, origin.step)})


def _write_peft(args: argparse.Namespace) -> dict[str, Any]:
    from triarch.interchange.huggingface.peft import write_peft
    from triarch.loading import open_stored

    model: Any = open_stored(args.workdir, step=args.step)
    class_name, modules = write_peft(model, args.output, args.overwrite)
    step = model.origin.step
    print(f"{args.output}: adapters of {modules} modules of {class_name}, {_of_step(step)}")
    return {"output": str(args.output), "format": "peft", "class": class_name, "step": step, "modules": modules}


def _of_step(step: int | None) -> str:
    return "no step known" if step is None else f"step {step}"


def _num_bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([KMG]B|)", text.strip())
    if not found or int(found[1]) == 0:
        raise UserError(f"--max_shard_size={text}: expected a number of bytes such as 500MB or 5GB")
    return int(found[1]) * _UNITS[found[2]]

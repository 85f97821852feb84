"""`triarch embed`: texts to vectors."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from triarch.cli import steps
from triarch.cli.outputs import check_file
from triarch.errors import UserError
from triarch.models.pooling import check_pooling

HELP = """Writes a vector for each text: a row of a NumPy file (float32[texts, d_model]), in the order of the texts.

The model is a run, an export, or a folder of Hugging Face or sentence-transformers. A text's vector is pooled from the
last hidden states (of an encoder-decoder from its encoder's). What the flags leave out is as the model was trained to
embed texts, or as its sentence-transformers folder says; of other models it is the mean, not normalised.

Texts are those of .txt files (a line each), JSON lines, Parquet or Arrow (their --field), plain or as .gz or .zst.
Texts longer than the model reads are cut at their end, and counted."""
EXAMPLE = """  triarch embed exports/minilm --input=passages.jsonl --output=passages.npy
  triarch embed runs/retriever --input=queries.txt --prompt='query: ' --normalize --output=queries.npy --json=-
  triarch embed exports/llama --input=texts.parquet --field=body --pooling=last --output=vectors.npy"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch embed`."""
    add = parser.add_argument
    add(
        "model",
        type=Path,
        metavar="PATH",
        help="a run, an export, or a folder of Hugging Face or sentence-transformers",
    )
    add("--input", required=True, action="append", metavar="FILE", help="of texts: a path, URL or pattern; repeatable")
    add("--output", required=True, type=Path, metavar="FILE", help="to write, a NumPy file (.npy)")
    add("--field", default="text", help="of JSON lines and tables: the field of the text (default: %(default)s)")
    add("--pooling", help="mean, cls (the first token) or last")
    add("--normalize", action=argparse.BooleanOptionalAction, default=None, help="whether vectors have length 1")
    add("--prompt", metavar="TEXT", help="put before each text, as 'query: '")
    add("--prompt_name", metavar="NAME", help="of a prompt that the model knows, as query; put before each text")
    add("--max_length", type=int, help="tokens read of a text at most (default: the model's)")
    add("--batch_size", type=int, default=32, help="texts computed at once (default: %(default)s)")
    add("--step", type=steps.one_step, metavar="STEP", help=steps.HELP)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the vectors, and prints how many there are.

    Raises:
      UserError: the model or a text cannot be read, or a flag is out of range.
    """
    for flag in ("batch_size", "max_length"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise UserError(f"--{flag}={value}: expected at least 1")
    if args.pooling is not None:
        check_pooling(args.pooling, f"--pooling={args.pooling}")
    if args.output.suffix != ".npy":
        raise UserError(f"--output={args.output}: expected a name that ends in .npy")
    check_file("output", args.output)
    texts = read_texts(args.input, args.field)
    from triarch.evaluation.embedding import embed
    from triarch.files import whole
    from triarch.interchange import Placement
    from triarch.loading import load_text_model
    from triarch.progress import Progress

    options = {} if args.step is None else {"step": args.step}
    model = load_text_model(args.model, placement=Placement.one_device(), **options)
    embedder = model.embedder(args.pooling, args.normalize)
    prompt = embedder.prompt(args.prompt, args.prompt_name)
    begun = time.perf_counter()
    with Progress(show=True) as progress:
        progress.start(f"embed {len(texts):,} texts", len(texts))
        found = embed(
            model,
            model.tokenizer,
            texts,
            embedder,
            prompt=prompt,
            max_length=args.max_length,
            batch_size=args.batch_size,
            advance=lambda done: progress.advance(done),
        )
    seconds = time.perf_counter() - begun
    with whole(args.output) as making, making.open("wb") as file:
        np.save(file, found.vectors, allow_pickle=False)
    rate = len(texts) / seconds
    how = f"{embedder.pooling}{', length 1' if embedder.normalize else ''}"
    print(f"{args.output}: {len(texts):,} vectors of {found.vectors.shape[1]} ({how}), {rate:.1f} texts/s")
    if found.num_cut:
        print(f"{found.num_cut:,} texts were longer than the model reads: their ends were cut off")
    return {
        "model": str(args.model),
        "output": str(args.output),
        "num_texts": len(texts),
        "dimensions": found.vectors.shape[1],
        "pooling": embedder.pooling,
        "normalize": embedder.normalize,
        "prompt": prompt,
        "num_tokens": found.num_tokens,
        "num_cut": found.num_cut,
        "seconds": seconds,
        "texts_per_second": rate,
    }


def read_texts(patterns: list[str], field: str) -> list[str]:
    """Returns the texts of files in their order, empty ones included where a file has them by a field.

    Raises:
      UserError: a file cannot be read, a line lacks the field, or there is no text.
    """
    from triarch.prepare.corpora.documents import LeftOut
    from triarch.prepare.corpora.files import Files

    texts = []
    for document in Files.matching(patterns, text_field=field, unit="line").documents():
        if isinstance(document, LeftOut):
            # Left out, every row after it would be that of another text.
            raise UserError(f"{document.place}: the text is empty: there is nothing to embed")
        texts.append(document.text)
    if not texts:
        raise UserError(f"--input={patterns[0]}: holds no text")
    return texts

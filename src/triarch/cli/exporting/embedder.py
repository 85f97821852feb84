"""What `triarch export --format=sentence_transformers` puts beside a model."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from triarch.errors import UserError
from triarch.models.pooling import check_pooling

if TYPE_CHECKING:
    from triarch.interchange import StoredModel
    from triarch.interchange.embedder import Embedder
    from triarch.interchange.huggingface.family import Family

FORMAT = "sentence_transformers"
FLAGS = ("pooling", "normalize", "prompt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this format."""
    add = parser.add_argument_group(FORMAT, "What is left out is as the model was trained, or imported.").add_argument
    add("--pooling", help="mean, cls or last")
    add("--normalize", action=argparse.BooleanOptionalAction, default=None, help="whether vectors have length 1")
    add(
        "--prompt", action="append", default=[], metavar="NAME=TEXT",
        help="what is put before texts of a kind, as 'query=query: '; repeatable",
    )  # fmt: skip


def refuse_flags(args: argparse.Namespace) -> None:
    """Raises UserError for a flag of this format that was given with another one."""
    for name in FLAGS:
        if getattr(args, name) not in (None, []):
            raise UserError(f"--{name} goes with --format={FORMAT}")


def embedder_of(args: argparse.Namespace, model: StoredModel) -> Embedder:
    """Returns how the exported model is to embed texts.

    Raises:
      UserError: a flag is out of range.
    """
    from triarch.interchange.embedder import Embedder

    found = Embedder.of(model.origin)
    if args.pooling is not None:
        check_pooling(args.pooling, f"--pooling={args.pooling}")
        found = dataclasses.replace(found, pooling=args.pooling)
    if args.normalize is not None:
        found = dataclasses.replace(found, normalize=args.normalize)
    prompts = dict(found.prompts)
    for given in args.prompt:
        name, equals, text = given.partition("=")
        if not equals or not name.isidentifier() or not text:
            raise UserError(f"--prompt={given}: expected NAME=TEXT, as 'query=query: '")
        prompts[name] = text
    return dataclasses.replace(found, prompts=prompts)


def files_of(
    model: StoredModel, embedder: Embedder, family: Family, tokenizer: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Returns the files that make a Hugging Face folder one of sentence-transformers, by their names.

    Args:
      model: that is exported.
      embedder: how it embeds texts.
      family: that it is written as.
      tokenizer: the files that are written of its tokenizer, but those that go along as they are.

    Raises:
      UserError: sentence-transformers would not read texts as the model does, or cannot load the model.
    """
    from triarch.interchange.huggingface.families import own
    from triarch.interchange.huggingface.sentence_transformers import embedder_files

    if family is own.FAMILY or family.code:
        raise UserError(
            f"{model.path}: no class of transformers has this network, and SentenceTransformer loads no other: "
            "--format=huggingface writes it with code of its own"
        )
    if model.config.architecture == "encoder-decoder" and family.model_type != "t5":
        raise UserError(
            f"{model.path}: SentenceTransformer reads texts with the encoder alone of T5 only, not of {family.name}"
        )
    _check_frame(model, tokenizer)
    return {name: text.encode() for name, text in embedder_files(embedder, model.config.d_model).items()}


def _check_frame(model: StoredModel, written: Mapping[str, bytes]) -> None:
    """Makes sure that the tokenizer puts around texts what the model was trained to read around them."""
    from triarch.cli.exporting.tokenizer import vocabulary_files
    from triarch.evaluation.embedding import frame_of
    from triarch.tokenizers.huggingface import TOKENIZER_FILE, HuggingFaceTokenizer

    files = {**vocabulary_files(model), **written}
    if model.vocabulary is None or TOKENIZER_FILE not in files:
        raise UserError(f"{model.path}: it has no {TOKENIZER_FILE}, which SentenceTransformer needs")
    found = HuggingFaceTokenizer(files, str(model.path), model.vocabulary["special"] if not written else None).frame
    wanted = frame_of(model, found)
    if found != wanted:
        raise UserError(
            f"{model.path}: the ids around its texts are {wanted}, and its tokenizer puts {found} there: "
            "SentenceTransformer would give other vectors"
        )

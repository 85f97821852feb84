"""The tokenizer that `triarch export --format=huggingface` puts beside a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from triarch.errors import UserError
from triarch.files import read_regular, regular_files
from triarch.loading import tokenizer_of
from triarch.objectives import learns_labels

if TYPE_CHECKING:
    from triarch.interchange import StoredModel
    from triarch.tokenizers import Tokenizer
    from triarch.tokenizers.as_huggingface import TextReading

# A tokenizer.json is missing: AutoTokenizer says so, where it would make up an empty vocabulary otherwise.
_NONE = {"tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}).encode() + b"\n"}


def vocabulary_files(model: StoredModel) -> dict[str, bytes]:
    """Returns what lies in a model's folder of files that rebuild its vocabulary; nothing without one."""
    from triarch.tokenizers.base import MOST_TOKENIZER_BYTES

    folder = model.vocabulary_files
    if folder is None:
        return {}
    files = regular_files(folder, folder.parent)
    return {path.name: read_regular(path, MOST_TOKENIZER_BYTES, folder.parent) for path in files}


def tokenizer_files(model: StoredModel) -> Mapping[str, bytes]:
    """Returns contents by file name; says on standard error where AutoTokenizer will not give the model's ids.

    Nothing for a model from a Hugging Face folder, tuned since or not, whose files go along as they are, nor where the
    vocabulary is unknown.
    """
    if model.vocabulary is None or (model.origin.is_imported and "t5x" not in (model.origin.source or {})):
        return {}
    if model.origin.imported is not None and model.vocabulary.get("kind") == "huggingface":
        return {}
    try:
        from triarch.tokenizers.as_huggingface import huggingface_files

        tokenizer = tokenizer_of(model)
        files = huggingface_files(tokenizer, vocabulary_files(model), _reading(model, tokenizer))
    except UserError as error:
        return _without(str(error))
    except ImportError as error:
        return _without(f"{error.name} is not installed (pip install 'triarch[tasks]')")
    if files.differing:
        what = f"{len(files.differing)} of {files.tried:,} texts tried, such as {files.differing[0][:40]!r}"
        print(
            f"triarch export: tokenizer.json gives other ids than the model was trained on for {what}", file=sys.stderr
        )
    return files.contents


def _reading(model: StoredModel, tokenizer: Tokenizer) -> TextReading:
    """Returns how a model reads text: as its store of labels was framed, or as a prompt is."""
    from triarch.tokenizers.as_huggingface import TextReading

    if learns_labels(model.origin.objective):
        from triarch.prepare.labelled.framing import ends

        before, after = ends(tokenizer)
        return TextReading(before, after, token_types=model.config.token_types > 1)
    from triarch.decoding import Conventions

    conventions, architecture = Conventions.of(model), model.config.architecture
    start = conventions.decoder_start if architecture == "decoder-only" else ()
    return TextReading(
        before=(*start, *conventions.before),
        after=conventions.after,
        mask=architecture == "encoder-only",
        sentinels=architecture == "encoder-decoder",
    )


def _without(reason: str) -> Mapping[str, bytes]:
    print(
        f"triarch export: without a tokenizer.json, so that AutoTokenizer cannot read text: {reason}", file=sys.stderr
    )
    return _NONE

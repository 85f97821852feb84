"""triarch: encoder-only, decoder-only and encoder-decoder language models under one recipe.

model = triarch.load("runs/first")             # a run, an export or a Hugging Face folder
model.generate("def main(", max_new_tokens=40)
model.score([("context", "continuation")])
triarch.results("runs/study").to_pandas()
"""

from __future__ import annotations

import os
import typing

from triarch.errors import UserError

if typing.TYPE_CHECKING:
    from triarch.results_table import Results
    from triarch.text_model import Model

__all__ = ["UserError", "__version__", "load", "results"]

__version__ = "0.1.0"


def load(path: str | os.PathLike[str], **options: typing.Any) -> Model:
    """Loads a run, an export or a Hugging Face folder, with its tokenizer; see `triarch.text_model.Model`.

    Args:
      path: the folder.
      options: `step` of a run, `execution`, `placement`: see `triarch.loading.load`.
    """
    from triarch import loading

    return loading.load_text_model(path, **options)


def results(study: str | os.PathLike[str], table: str = "results") -> Results:
    """Returns a table of a study's folder as columns; see `triarch.results_table.read_results`."""
    from triarch import results_table

    return results_table.read_results(study, table)

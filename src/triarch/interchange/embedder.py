"""How a model is to be made to embed texts: what its folder, or its training, says of that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from triarch.errors import UserError, nearest
from triarch.interchange.manifest import Origin
from triarch.models.pooling import Pooling, check_pooling

# Key of `Origin.source`.
EMBEDDER = "embedder"
# The objectives that train a model to embed texts.
TRAINS_EMBEDDERS = ("Contrast", "MarginMSE")
SIMILARITIES = ("cosine", "dot")


@dataclasses.dataclass(frozen=True)
class Embedder:
    """From texts to vectors.

    Attributes:
      pooling: of the last states: "mean", "cls" or "last".
      normalize: whether vectors are scaled to length 1.
      similarity: by which they are compared, "cosine" or "dot".
      prompts: texts to be put before others, by name ("query", "passage").
      default_prompt: the name of the one that is used where none is asked for; None for none.
      counts_prompt: whether the mean is also over the prompt's tokens.
      max_length: tokens read of a text at most, those around it included; None for all that the model has places for.
    """

    pooling: Pooling = "mean"
    normalize: bool = False
    similarity: str = "cosine"
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_prompt: str | None = None
    counts_prompt: bool = True
    max_length: int | None = None

    @classmethod
    def of(cls, origin: Origin) -> Embedder:
        """Returns what is known of a model: by the objective it was trained with, else by the folder it came from.

        The mean over all tokens where nothing is known.

        Raises:
          UserError: what its manifest says is not an embedder.
        """
        objective = None if origin.is_imported else origin.objective
        if objective is not None and objective.get("class") in TRAINS_EMBEDDERS:
            normalize = objective["similarity"] == "cosine"
            pooling = cast(Pooling, objective["pooling"])
            return cls(pooling, normalize, "cosine" if normalize else "dot").checked("its objective")
        said = (origin.source or {}).get(EMBEDDER)
        return cls() if said is None else cls.from_json(said, "its manifest")

    @classmethod
    def from_json(cls, fields: Any, where: str) -> Embedder:
        """Returns the embedder that a manifest describes.

        Raises:
          UserError: it describes none.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, Mapping) or not fields.keys() <= known:
            raise UserError(f"{where}: {EMBEDDER}: expected an object with the fields {', '.join(sorted(known))}")
        return cls(**fields).checked(f"{where}: {EMBEDDER}")

    def checked(self, where: str) -> Embedder:
        """Returns itself.

        Raises:
          UserError: a field has a value that it cannot have; `where` is what says so.
        """
        check_pooling(self.pooling, where)
        if self.similarity not in SIMILARITIES:
            raise UserError(f"{where}: similarity {self.similarity!r}{nearest(str(self.similarity), SIMILARITIES)}")
        is_texts = isinstance(self.prompts, Mapping) and all(isinstance(text, str) for text in self.prompts.values())
        if not is_texts:
            raise UserError(f"{where}: prompts: expected texts by name")
        if self.default_prompt is not None and self.default_prompt not in self.prompts:
            raise UserError(f"{where}: default_prompt: no prompt {self.default_prompt!r}")
        length = self.max_length
        is_count = isinstance(length, int) and not isinstance(length, bool) and length > 0
        if length is not None and not is_count:
            raise UserError(f"{where}: max_length = {length!r}: expected a number of tokens")
        return self

    def prompt(self, text: str | None, name: str | None) -> str:
        """Returns the prompt to be put before texts: `text`, or the one called `name`, or the default one.

        Raises:
          UserError: both are given, or there is no such prompt.
        """
        if text is not None and name is not None:
            raise UserError("a prompt is given as a text or by its name, not both")
        if text is not None:
            return text
        name = self.default_prompt if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            known = f"it knows {', '.join(self.prompts)}" if self.prompts else "it knows none"
            raise UserError(f"the model has no prompt {name!r}{nearest(name, self.prompts)}: {known}")
        return self.prompts[name]

"""What makes a Hugging Face class readable and writable."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from triarch.interchange.huggingface.fields import ConfigFields
from triarch.interchange.huggingface.table import TensorRule
from triarch.models import MakeHead, ModelConfig


def special_ids(roles: Mapping[str, int]) -> dict[str, Any]:
    """Returns special ids by role as most classes name them."""
    return {f"{role}_token_id": index for role, index in roles.items()}


@dataclasses.dataclass(frozen=True)
class Family:
    """A class of transformers.

    Attributes:
      name: what the command line calls it.
      model_type: in its config.json.
      class_name: the class with a head over the vocabulary.
      read: its config.json as our config; refuses options that have no equivalent.
      write: our config as its config.json, less `model_type` and `architectures`. What the class cannot express is
        found by reading the result again, so this need not look for it.
      rules: the table of tensors for a config.
      objective: what its networks were trained with, as in a manifest, where that is one of ours.
      also: other classes whose files hold the same network, besides tensors that are `ignored`.
      bodies: classes without a head, whose files hold the network where its output matrix is tied to the embedding.
      prefix: of the tensors of the class's body, which files of the body alone lack.
      renamed: (ending, ending that takes its place) of tensors in old files.
      copies: tensors that files may hold although they are tied: the tensor that each must be equal to. Where a file
        lacks that tensor, the first of its copies stands for it.
      zeros: shapes of tensors of the class, by name, that are zero in a network of a config.
      ignored: regular expressions of tensors that are no part of the network: buffers, other heads.
      labels_start: what the class puts before `labels`, from its config.json; None for classes that put nothing there.
      special: special ids by role ("pad", "bos", "eos", "mask", "decoder_start") as its config.json names them.
      make_head: makes what the class has beside the network; None for nothing.
      relatives: classes whose config.json says of the body what this one's does.
      reduced: a network as the class has it, less what predicts tokens where it has none of that.
      labels: what a config.json says of the labels, from their names; {} for classes without.
      code: files of `modelling/` that go along, for a class that transformers does not have.
      auto_class: of transformers, that loads such a class.
    """

    name: str
    model_type: str
    class_name: str
    read: Callable[[ConfigFields], ModelConfig]
    write: Callable[[ModelConfig], dict[str, Any]]
    rules: Callable[[ModelConfig], Sequence[TensorRule]]
    objective: Mapping[str, Any] | None = None
    also: tuple[str, ...] = ()
    bodies: tuple[str, ...] = ()
    prefix: str = ""
    renamed: tuple[tuple[str, str], ...] = ()
    copies: Mapping[str, str] = dataclasses.field(default_factory=dict)
    zeros: Callable[[ModelConfig], Mapping[str, tuple[int, ...]]] = lambda config: {}
    ignored: tuple[str, ...] = ()
    labels_start: Callable[[Mapping[str, Any]], int | None] = lambda fields: None
    special: Callable[[Mapping[str, int]], dict[str, Any]] = special_ids
    make_head: MakeHead | None = None
    relatives: tuple[str, ...] = ()
    reduced: Callable[[ModelConfig], ModelConfig] = lambda config: config
    labels: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    code: tuple[str, ...] = ()
    auto_class: str = ""

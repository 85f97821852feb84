"""What is evaluated and was trained on after all: by the names of tasks, and by exact text."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from triarch.data.store import TokenStore
from triarch.data.tasks import tasks_in
from triarch.decoding.prompt_texts import Tokenizer
from triarch.errors import UserError
from triarch.training.record.config_json import read_json
from triarch.training.record.fingerprint import CONFIG_JSON

# Words of a task's name that say how it is asked, not what.
_HOW = {
    "cot",
    "flan",
    "fewshot",
    "zeroshot",
    "zero",
    "few",
    "shot",
    "opt",
    "noopt",
    "zs",
    "fs",
    "generative",
    "template",
}
# Examples of a store whose texts are compared; of more the first so many.
_MOST_EXAMPLES = 2_000_000


def trained_stores(path: Path) -> tuple[list[TokenStore], str]:
    """Returns the stores that a run was trained on, those that are still there, and which split of them."""
    if not (path / CONFIG_JSON).is_file():
        return [], ""
    data = read_json(path).get("data") or {}
    store = data.get("store")
    folders = store.get("stores", ()) if isinstance(store, Mapping) else [store]
    found = []
    for folder in folders:
        if not isinstance(folder, str):
            continue
        try:
            found.append(TokenStore.open(folder))
        except UserError:
            continue
    return found, str(data.get("train_split", "train"))


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a run was trained on.

    Attributes:
      stores: those that are still there.
      split: of them.
      tasks: of each evaluated task, the trained ones of its name.
    """

    stores: list[TokenStore]
    split: str
    tasks: dict[str, list[str]]

    @classmethod
    def of(cls, path: Path, evaluated: Iterable[str]) -> Trained:
        """Returns what the run at a path was trained on; nothing of an export."""
        stores, split = trained_stores(path)
        return cls(stores, split, by_task(stores, split, evaluated))

    @functools.cached_property
    def inputs(self) -> set[bytes]:
        """Digests of all inputs of pairs; see `trained_inputs`."""
        return trained_inputs(self.stores, self.split)

    def equal_inputs(self, prompts: Iterable[str], tokenizer: Tokenizer, end: int) -> int:
        """Returns how many prompts are the very inputs of something trained on, whatever space is around them.

        Args:
          prompts: as a task asks them.
          tokenizer: of the stores' vocabulary.
          end: the id that ends inputs.
        """
        if not self.stores or not self.inputs:
            return 0
        forms = ({prompt, prompt.strip(), f"{prompt.strip()}\n"} for prompt in prompts)
        return sum(any(digest(np.append(tokenizer.encode(one), end)) in self.inputs for one in own) for own in forms)


def by_task(trained: Sequence[TokenStore], split: str, evaluated: Iterable[str]) -> dict[str, list[str]]:
    """Returns, of each evaluated task, the trained ones whose names hold its own, word by word."""
    names = {task: _words(task) for store in trained for task in (tasks_in(store, split) or {})}
    found = {}
    for task in evaluated:
        own = [word for word in _words(task) if word not in _HOW]
        same = [name for name, words in names.items() if own and _holds(words, own)]
        if same:
            found[task] = sorted(same)
    return found


def trained_inputs(trained: Sequence[TokenStore], split: str) -> set[bytes]:
    """Returns digests of the inputs of all examples that were trained on, of stores of pairs."""
    found: set[bytes] = set()
    for store in trained:
        if not store.manifest.layout.endswith("pairs") or split not in store.manifest.splits:
            continue
        reader = store.split(split)
        for index in range(min(len(reader), _MOST_EXAMPLES)):
            found.update(map(digest, _inputs(reader[index])))
    return found


def _inputs(example: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    if "num_inputs" not in example:
        return [example["inputs"]]
    tokens, segments = example["tokens"], example["segment_ids"]
    return [tokens[segments == number][:count] for number, count in enumerate(example["num_inputs"], 1)]


def digest(tokens: np.ndarray) -> bytes:
    """Returns 128 bits that tell the tokens of inputs, their end included, from others."""
    return hashlib.blake2b(np.asarray(tokens, "<i4").tobytes(), digest_size=16).digest()


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def _holds(words: Sequence[str], part: Sequence[str]) -> bool:
    return any(list(words[first : first + len(part)]) == list(part) for first in range(len(words) - len(part) + 1))

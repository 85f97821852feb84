"""Small random data sets in TFDS's format, one for each source that the tasks of the `t5` package read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

_EXAMPLES = 40
_SENTENCE = "the quick brown fox said that it was 3 o'clock and nobody but Anna knew why he or she left early"
_TEXT, _NUMBER = tfds.features.Text(), np.int32
_LABELS = {
    "cola": "unacceptable acceptable", "sst2": "negative positive", "mrpc": "not_equivalent equivalent",
    "qqp": "not_duplicate duplicate", "qnli": "entailment not_entailment", "rte": "entailment not_entailment",
    "wnli": "not_entailment entailment", "axb": "entailment not_entailment", "axg": "entailment not_entailment",
    "cb": "entailment contradiction neutral", "copa": "choice1 choice2", "boolq": "False True",
    "multirc": "False True", "wic": "False True", "wsc.fixed": "False True",
    **dict.fromkeys(("mnli", "mnli_matched", "mnli_mismatched", "ax"), "entailment neutral contradiction"),
}  # fmt: skip
# Texts of an example, then its numbers, by GLUE's and SuperGLUE's name of the task.
_COLUMNS = {
    "cola": ("sentence", ""), "sst2": ("sentence", ""), "mrpc": ("sentence1 sentence2", ""),
    "qqp": ("question1 question2", ""), "qnli": ("question sentence", ""), "wnli": ("sentence1 sentence2", ""),
    "stsb": ("sentence1 sentence2", ""), "axb": ("sentence1 sentence2", ""), "axg": ("premise hypothesis", ""),
    "boolq": ("question passage", ""), "cb": ("premise hypothesis", ""),
    "copa": ("premise choice1 choice2 question", ""), "multirc": ("paragraph question answer", ""),
    "record": ("passage query", ""), "wic": ("word sentence1 sentence2", "start1 start2 end1 end2"),
    "wsc.fixed": ("text span1_text span2_text", "span1_index span2_index"),
    **dict.fromkeys(("mnli", "mnli_matched", "mnli_mismatched", "ax"), ("premise hypothesis", "")),
}  # fmt: skip
# Examples whose preprocessors look for a pronoun, or for an answer in its text.
_FIXED: dict[str, list[dict[str, Any]]] = {
    "definite_pronoun_resolution": [
        {"sentence": "Anna told Bob that it was late", "pronoun": "it", "candidates": ["Anna", "Bob"]}
    ],
    "wsc.fixed": [
        {"text": "Anna told Bob that he was late", "span1_text": "Bob", "span1_index": 2, "span2_text": "he",
         "span2_index": 4},
    ],
    "wnli": [
        {"sentence1": "The fish ate the worm. It was tasty.", "sentence2": "The worm was tasty."},
        {"sentence1": "Anna saw Bob before he left early.", "sentence2": "Bob left early."},
    ],
    "squad": [{"context": "the quick brown fox left early today", "answers": [("brown fox", 10), ("early", 25)]}],
    "trivia_qa": [{"contexts": ["it was the quick fox .", "nobody knew the fox ."], "aliases": ["quick fox", "fox"]}],
}  # fmt: skip


def write(name: str, folder: Path) -> None:
    """Writes the data set that TFDS calls `name`, such as "glue/cola:1.0.0", to TFDS's folder."""
    path, _, version = name.partition(":")
    base, _, config = path.partition("/")
    tfds.disable_progress_bar()
    draw = random.Random(name)
    features = _features(base, config)
    rows = {
        split: [(number, _example(features, base, config, number, draw)) for number in range(_EXAMPLES)]
        for split in ("train", "validation", "test")
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name=base, version=version, config=config or None, features=features, split_datasets=rows, data_dir=str(folder)
    )


def _features(base: str, config: str) -> tfds.features.FeaturesDict:
    texts = lambda *names: dict.fromkeys(names, _TEXT)  # noqa: E731
    several = tfds.features.Sequence
    if base in ("glue", "super_glue"):
        found = _of_glue(base, config)
    elif base.startswith("wmt"):
        found = texts(*config.split("-"))
    else:
        found = {
            "c4": texts("text", "url"),
            "wikipedia": texts("title", "text"),
            "cnn_dailymail": texts("article", "highlights", "id"),
            "squad": texts("id", "title", "context", "question")
            | {"answers": several({"text": _TEXT, "answer_start": _NUMBER})},
            "trivia_qa": texts("question", "question_id")
            | {
                "answer": tfds.features.FeaturesDict({"value": _TEXT, "normalized_aliases": several(_TEXT)}),
                "entity_pages": several(texts("wiki_context")),
                "search_results": several(texts("search_context")),
            },
            "definite_pronoun_resolution": texts("sentence", "pronoun")
            | {"candidates": several(_TEXT, length=2), "label": tfds.features.ClassLabel(num_classes=2)},
        }[base]
    return tfds.features.FeaturesDict(found)


def _of_glue(base: str, config: str) -> dict[str, Any]:
    if base == "super_glue" and config == "rte":
        columns, numbers = "premise hypothesis", ""
    else:
        columns, numbers = _COLUMNS.get(config, ("sentence1 sentence2", ""))
    found: dict[str, Any] = {**dict.fromkeys(columns.split(), _TEXT), **dict.fromkeys(numbers.split(), _NUMBER)}
    found["idx"] = _NUMBER
    if config in ("multirc", "record"):
        parts = ("paragraph", "question", "answer") if config == "multirc" else ("passage", "query")
        found["idx"] = tfds.features.FeaturesDict(dict.fromkeys(parts, _NUMBER))
    if config == "record":
        return found | {name: tfds.features.Sequence(_TEXT) for name in ("entities", "answers")}
    label = np.float32 if config == "stsb" else tfds.features.ClassLabel(names=_LABELS[config].split())
    return found | {"label": label}


def _example(features: Any, base: str, config: str, number: int, draw: random.Random) -> dict[str, Any]:
    made = {name: _value(feature, draw) for name, feature in features.items()}
    kept = _FIXED.get(config if config in _FIXED else base)
    if kept is None:
        return made
    fixed = kept[number % len(kept)]
    if base == "squad":
        answers = [{"text": text, "answer_start": start} for text, start in fixed["answers"]]
        return made | {"context": fixed["context"], "answers": answers}
    if base == "trivia_qa":
        first, second = fixed["contexts"]
        return made | {
            "answer": {"value": "fox", "normalized_aliases": fixed["aliases"]},
            "entity_pages": [{"wiki_context": first}],
            "search_results": [{"search_context": second}],
        }
    return made | fixed


def _value(feature: Any, draw: random.Random) -> Any:
    if isinstance(feature, tfds.features.ClassLabel):
        return draw.randrange(feature.num_classes)
    if isinstance(feature, tfds.features.Text):
        return " ".join(draw.choices(_SENTENCE.split(), k=draw.randint(5, 30)))
    if isinstance(feature, tfds.features.Sequence):
        return [_value(feature.feature, draw) for _ in range(2)]
    if isinstance(feature, tfds.features.FeaturesDict):
        return {name: _value(inner, draw) for name, inner in feature.items()}
    return draw.uniform(0, 5) if feature.np_dtype == np.float32 else draw.randrange(3)

"""Tiny tasks and models for lm-evaluation-harness, with its own backend for Hugging Face as the reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml

from tests.interchange.huggingface import parity
from tests.tokenizers import huggingface
from tests.tokenizers.texts import Documents

WORDS = [word for document in Documents().documents() for word in document.text.split() if word.isalpha()]
# Special tokens of each layout of tokenizer, as a model's folder names them.
SPECIAL = {
    "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
    "modernbert": {
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
    },
    "t5": {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
}


def _metric(name: str, aggregation: str = "mean", higher_is_better: bool = True) -> dict[str, object]:
    return {"metric": name, "aggregation": aggregation, "higher_is_better": higher_is_better}


_QUESTION = "{{query}}\nAnswer:"
TASKS = {
    "tiny_choice": {
        "output_type": "multiple_choice",
        "doc_to_text": _QUESTION,
        "doc_to_target": "{{gold}}",
        "doc_to_choice": "{{choices}}",
        "metric_list": [_metric("acc"), _metric("acc_norm")],
    },
    "tiny_word": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{text.rsplit(' ', 1)[0]}} ",
        "doc_to_target": "{{text.rsplit(' ', 1)[-1]}}",
        "metric_list": [_metric("perplexity", "perplexity", False), _metric("acc")],
    },
    "tiny_rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [
            _metric("word_perplexity", "weighted_perplexity", False),
            _metric("bits_per_byte", "bits_per_byte", False),
        ],
    },
    "tiny_written": {
        "output_type": "generate_until",
        "doc_to_text": _QUESTION,
        "doc_to_target": "{{choices[gold]}}",
        "generation_kwargs": {"until": ["e"], "max_gen_toks": 8, "do_sample": False},
        "metric_list": [_metric("exact_match")],
    },
}


def write_tasks(folder: Path) -> Path:
    """Writes `TASKS` with their data; returns the folder."""
    rng = np.random.default_rng(0)

    def words(count):
        return " ".join(rng.choice(WORDS, count))

    rows = []
    for row in range(6):
        choices = [words(1), words(1), words(3), words(5)]
        rows.append(
            {"query": words(1 + row), "choices": choices, "gold": int(rng.integers(4)), "text": words(40) + "."}
        )
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}}}
    for name, fields in TASKS.items():
        task = {"task": name, **data, "test_split": "test", "fewshot_split": "test", **fields}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
    return folder


def write_model(folder: Path, layout: str, class_name: str, config_name: str, **options) -> Path:
    """Writes a model of random weights with a tokenizer, as transformers saves it."""
    tokenizer = huggingface.LAYOUTS[layout]()
    ids = {name.replace("token", "token_id"): tokenizer.token_to_id(token) for name, token in SPECIAL[layout].items()}
    size = max(tokenizer.get_vocab().values()) + 1
    model = parity.make(class_name, config_name, vocab_size=size, **(ids | options))
    model.generation_config.bos_token_id = ids.get("bos_token_id")
    model.save_pretrained(folder)
    names = SPECIAL[layout] | {"tokenizer_class": "PreTrainedTokenizerFast"}
    huggingface.write_folder(folder, layout, tokenizer_config=names)
    return folder


def answers(samples: dict) -> dict[tuple[str, int], list]:
    """Returns what a model answered to each document of each task."""
    return {(task, one["doc_id"]): one["resps"] for task, rows in samples.items() for one in rows}

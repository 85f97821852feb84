"""Tiny tasks and models for lm-evaluation-harness, with its own backend for Hugging Face as the reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.interchange.huggingface import parity
from tests.tasks import huggingface
from tests.tasks.texts import Documents
from triarch.interchange import read_export

WORDS = [word for document in Documents().documents() for word in document.text.split() if word.isalpha()]
# Special tokens of each layout of tokenizer, as a model's folder names them.
SPECIAL = {
    "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
    "t5": {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
}
YAML = {
    "tiny_choice": """
output_type: multiple_choice
doc_to_text: "{{query}}\\nAnswer:"
doc_to_target: "{{gold}}"
doc_to_choice: "{{choices}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
""",
    "tiny_word": """
output_type: loglikelihood
doc_to_text: "{{text.rsplit(' ', 1)[0]}} "
doc_to_target: "{{text.rsplit(' ', 1)[-1]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "tiny_rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
""",
    "tiny_written": """
output_type: generate_until
doc_to_text: "{{query}}\\nAnswer:"
doc_to_target: "{{choices[gold]}}"
generation_kwargs: {until: ["e"], max_gen_toks: 8, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
""",
}


def write_tasks(folder: Path) -> Path:
    """Writes the tasks of `YAML` with their data; returns the folder."""
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
    for name, text in YAML.items():
        head = f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / 'rows.jsonl'}}}}}\n"
        (folder / f"{name}.yaml").write_text(head + "test_split: test\nfewshot_split: test" + text)
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


__all__ = ["WORDS", "YAML", "answers", "read_export", "write_model", "write_tasks"]

"""A small BERT and rows of texts, trained here and by a loss of sentence-transformers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

import triarch
from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.encoders import test_bert
from tests.prepare.test_groups import write_rows
from tests.tokenizers import huggingface
from tests.training import tiny
from triarch.cli.main import main
from triarch.training import DataConfig
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant

STEPS = 20


@dataclasses.dataclass(frozen=True)
class Body:
    """A BERT without a head.

    Attributes:
      folder: of Hugging Face.
      home: where stores and exports are made.
    """

    folder: Path
    home: Path

    def rows(self, count):
        """Rows of a query, a positive and a negative text."""
        rng = np.random.default_rng(0)

        def text():
            return " ".join("".join(rng.choice(list("brownfximp"), 4)) for _ in range(2))

        return [{"query": text(), "positive": text(), "negative": text()} for _ in range(count)]

    def config(self, rows, objective, *flags):
        """The run of `objective` on `rows`, which `prepare` with `flags` makes a store of."""
        path = write_rows(self.home / "rows.jsonl", rows)
        flags = ["--negative_fields=negative", f"--vocabulary={self.folder}", "--validation_fraction=0", *flags]
        lengths = ["--max_query=14", "--max_passage=14"]
        assert main(["prepare", "--task=groups", f"--files={path}", "--passage_field=positive", *flags, *lengths,
                     f"--output={self.home / 'store'}"]) == 0  # fmt: skip
        assert main(["import", str(self.folder), f"--output={self.home / 'export'}"]) == 0
        return tiny.run_config(
            "", model=triarch.load(self.home / "export").config, objective=objective,
            data=DataConfig(42, str(self.home / "store")), steps=STEPS, batch_size=8,
            optimizer=AdamW(Constant(1e-3), weight_decay=0.0, max_grad_norm=None, epsilon=1e-8, beta1=0.9, beta2=0.999),
            init_from=str(self.home / "export"),
        )  # fmt: skip


def of_bert(home):
    """A BERT without dropout in `home`."""
    folder = huggingface.write_folder(home / "bert", "bert", tokenizer_config={"model_max_length": 16})
    options = test_bert.BASE | dict(vocab_size=huggingface.LAYOUTS["bert"]().get_vocab_size())
    options |= dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=32)
    parity.make("BertModel", "BertConfig", **options).save_pretrained(folder)
    return Body(folder, home)


def steps_of_library(body, config, model, loss, with_labels=False):
    """The losses of a run's steps as a loss of sentence-transformers has them, on the same rows in the same order."""
    torch = parity.torch
    inputs = open_inputs(config)
    batches, reader = inputs.training(), inputs.stores[0].split("train")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, eps=1e-8, betas=(0.9, 0.999))
    special = triarch.load(body.home / "export").tokenizer.info.special
    model.train()
    found = []
    for step in range(STEPS):
        features = []
        examples = [reader[one.index] for one in batches.example_ids(step)]
        for number in (1, 2, 3):
            texts = [
                [special["bos"], *one["tokens"][one["segment_ids"] == number].tolist(), special["eos"]]
                for one in examples
            ]
            longest = max(map(len, texts))
            ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
            mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
            features.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)})
        labels = torch.tensor(np.stack([one["label"][0] for one in examples])) if with_labels else None
        value = loss(features, labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        found.append(value.item())
    return found

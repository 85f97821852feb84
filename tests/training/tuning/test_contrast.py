"""Contrastive training: the same on one device and on eight; and the losses of sentence-transformers."""

from __future__ import annotations

import json

import numpy as np
import pytest

import triarch
from tests.prepare.test_groups import prepare, rows_of, write_rows
from tests.tokenizers import huggingface
from tests.training import tiny
from triarch.cli.main import main
from triarch.objectives import Contrast
from triarch.training import DataConfig, train
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant

_SCRIPT = """
import json, sys
import jax
from tests.training import tiny
from triarch.objectives import Contrast
from triarch.sharding import MeshConfig
from triarch.training import DataConfig
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant
from triarch.training.run import assemble

MESHES = {"one": (MeshConfig(), 1), "all": (MeshConfig(2, 2, 2), 8), "data": (MeshConfig(8, 1, 1), 8)}
for name, (mesh, devices) in MESHES.items():
    for chunk in (0, 8):
        config = tiny.run_config(
            "", "encoder-only", model=tiny.model("encoder-only", vocab_size=260), mesh=mesh, batch_size=16,
            objective=Contrast(8, 20, 1, symmetric=True, chunk=chunk), data=DataConfig(48, sys.argv[1]),
            optimizer=AdamW(Constant(1e-2), epsilon=1e-3),
        )
        run = assemble(config, open_inputs(config), jax.devices()[:devices])
        state, losses = run.initial_state(), []
        for _, batch in zip(range(4), run.batches(0)):
            state, metrics = run.train_step(state, batch)
            losses.append([float(metrics["loss"]), float(metrics["grad_norm"])])
        print(json.dumps(losses))
"""


@pytest.mark.slow
def test_negatives_are_those_of_the_global_batch_on_any_mesh(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", rows_of(200))
    assert prepare(path, tmp_path / "store", "--negative_fields=negative") == 0
    process = tiny.python(_SCRIPT, tmp_path / "store", devices=8, optimise=False)
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    reference, *others = map(json.loads, output.splitlines())
    assert len(others) == 5 and reference[-1][0] < reference[0][0]
    for found in others:
        np.testing.assert_allclose(found, reference, rtol=5e-5)


@pytest.mark.slow
def test_twenty_steps_are_those_of_sentence_transformers(tmp_path):
    """MultipleNegativesRankingLoss of a BERT without dropout, the same weights, rows, order and AdamW."""
    library = pytest.importorskip("sentence_transformers")
    pytest.importorskip("transformers")
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from tests.interchange.huggingface import parity
    from tests.interchange.huggingface.families.encoders import test_bert

    body = huggingface.write_folder(tmp_path / "bert", "bert", tokenizer_config={"model_max_length": 16})
    options = test_bert.BASE | dict(vocab_size=huggingface.LAYOUTS["bert"]().get_vocab_size())
    options |= dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=32)
    parity.make("BertModel", "BertConfig", **options).save_pretrained(body)
    rng = np.random.default_rng(0)

    def text():
        return " ".join("".join(rng.choice(list("brownfximp"), 4)) for _ in range(2))

    rows = [{"query": text(), "positive": text(), "negative": text()} for _ in range(160)]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    flags = ["--negative_fields=negative", f"--vocabulary={body}", "--validation_fraction=0"]
    lengths = ["--max_query=14", "--max_passage=14"]
    assert main(["prepare", "--task=groups", f"--files={path}", "--passage_field=positive", *flags, *lengths,
                 f"--output={tmp_path / 'store'}"]) == 0  # fmt: skip
    assert main(["import", str(body), f"--output={tmp_path / 'export'}"]) == 0
    loaded = triarch.load(tmp_path / "export")
    config = tiny.run_config(
        "", model=loaded.config, objective=Contrast(14, 14, 1), data=DataConfig(42, str(tmp_path / "store")),
        optimizer=AdamW(Constant(1e-3), weight_decay=0.0, max_grad_norm=None, epsilon=1e-8, beta1=0.9, beta2=0.999),
        steps=20, batch_size=8, init_from=str(tmp_path / "export"),
    )  # fmt: skip
    train(config, tmp_path / "run", "")
    ours = tiny.losses(tmp_path / "run")
    inputs = open_inputs(config)
    batches, reader = inputs.training(), inputs.stores[0].split("train")
    # Of a bare body the mean over all tokens.
    model = library.SentenceTransformer(str(body), device="cpu")
    loss = MultipleNegativesRankingLoss(model, scale=20.0)
    torch = parity.torch
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, eps=1e-8, betas=(0.9, 0.999))
    cls, sep = (loaded.tokenizer.info.special[name] for name in ("bos", "eos"))
    model.train()
    for step in range(20):
        features = []
        examples = [reader[one.index] for one in batches.example_ids(step)]
        for number in (1, 2, 3):
            texts = [[cls, *one["tokens"][one["segment_ids"] == number].tolist(), sep] for one in examples]
            longest = max(map(len, texts))
            ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
            mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
            features.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)})
        value = loss(features, None)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        assert ours[step + 1] == pytest.approx(value.item(), abs=1e-4)

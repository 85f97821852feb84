"""Contrastive training: the same on one device and on eight; and the losses of sentence-transformers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.prepare.test_groups import prepare, rows_of, write_rows
from tests.training import tiny
from triarch.objectives import Contrast
from triarch.training import train

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

    from tests.training.tuning.contrastive_parity import of_bert, steps_of_library

    body = of_bert(tmp_path)
    config = body.config(body.rows(160), Contrast(14, 14, 1))
    train(config, tmp_path / "run", "")
    ours = tiny.losses(tmp_path / "run")
    # Of a bare body the mean over all tokens.
    model = library.SentenceTransformer(str(body.folder), device="cpu")
    wanted = steps_of_library(body, config, model, MultipleNegativesRankingLoss(model, scale=20.0))
    for step, value in enumerate(wanted, 1):
        assert ours[step] == pytest.approx(value, abs=1e-4)

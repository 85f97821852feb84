"""Tuning on pairs: transformers' Trainer takes the same steps, and packed rows give the losses of pairs alone."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from tests.models import tiny as tiny_models
from tests.training import tiny
from triarch.interchange import read_manifest
from triarch.objectives import Supervised
from triarch.planning.packing import by_rows
from triarch.planning.topology import parse
from triarch.prepare.corpora.files import Files
from triarch.prepare.pipeline import VocabularyChoice, prepare
from triarch.training import DataConfig, RunConfig, train
from triarch.training.inputs import open_inputs
from triarch.training.memory import least_bytes
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant
from triarch.training.run import assemble

INPUTS, TARGETS = 20, 12
STEPS, BATCH, RATE = 20, 4, 3e-3
VOCAB = 384  # Of bytes, rounded up.


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Sums as texts."""
    rng = np.random.default_rng(0)
    lines = [
        {"inputs": f"{a} + {b} =", "targets": str(a + b)}
        for a, b in rng.integers(0, 10 ** rng.integers(1, 5, (60, 1)), (60, 2))
    ]
    path = tmp_path_factory.mktemp("rows") / "sums.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def store_of(rows, folder, layout):
    files = Files((str(rows),), text_field="targets", inputs_field="inputs")
    lengths = {"inputs": INPUTS, "targets": TARGETS}
    prepare(files, "sums", folder, VocabularyChoice("bytes"), 1, 0.1, workers=1, layout=layout, lengths=lengths)
    return folder


@pytest.fixture(scope="module")
def pairs(rows, tmp_path_factory):
    return store_of(rows, tmp_path_factory.mktemp("pairs") / "store", "pairs")


def run_of(store, model, **changes):
    config = RunConfig(
        model=model,
        objective=Supervised(INPUTS, TARGETS),
        data=DataConfig(INPUTS + TARGETS, str(store)),
        optimizer=AdamW(Constant(RATE, warmup_steps=0), weight_decay=0.0),
        steps=STEPS,
        batch_size=BATCH,
        execution=tiny_models.FLOAT32,
        z_loss=0.0,
        log_every=1,
        tensorboard=False,
    )
    return dataclasses.replace(config, **changes)


def as_theirs(batch, is_llama):
    """A batch as a model of transformers takes it, which moves labels by one itself where it has one side."""
    targets = np.where(batch["decoder_loss_weights"] > 0, batch["decoder_target_tokens"], -100)
    if not is_llama:
        return {
            "input_ids": batch["encoder_input_tokens"],
            "attention_mask": batch["encoder_segment_ids"],
            "decoder_input_ids": batch["decoder_input_tokens"],
            "labels": targets,
        }
    unscored = np.full((len(targets), 1), -100)
    inputs = np.concatenate([batch["decoder_input_tokens"], batch["decoder_target_tokens"][:, -1:]], axis=1)
    return {"input_ids": inputs, "labels": np.concatenate([unscored, targets], axis=1)}


def their_losses(model, batches, folder):
    """The loss of each step of transformers' Trainer over `batches`, in their order."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    losses = []

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def compute_loss(self, *arguments, **options):
            loss = super().compute_loss(*arguments, **options)
            losses.append(loss.item())
            return loss

    options = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        adam_beta2=0.95,
        weight_decay=0.0,
        max_grad_norm=1.0,
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    examples = [
        {name: torch.as_tensor(np.asarray(value)[row]).long() for name, value in batch.items()}
        for batch in batches
        for row in range(BATCH)
    ]
    InOrder(model=model, args=options, train_dataset=examples).train()
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_twenty_steps_are_those_of_transformers_trainer(name, pairs, tmp_path):
    pytest.importorskip("transformers")
    from tests.interchange.huggingface import parity
    from tests.interchange.huggingface.families.decoders import test_llama
    from tests.interchange.huggingface.families.encoder_decoders import test_t5

    if name == "llama":
        # Bytes begin a text with the id of padding, whose embedding the class would not train.
        shape = test_llama.BASE | {"vocab_size": VOCAB, "pad_token_id": None}
        made = parity.make("LlamaForCausalLM", "LlamaConfig", **shape)
    else:
        shape = test_t5.CASES["1.0"] | {"vocab_size": VOCAB, "dropout_rate": 0.0}
        made = parity.make("T5ForConditionalGeneration", "T5Config", **shape)
    imported = parity.import_model(made, tmp_path)
    config = run_of(pairs, read_manifest(imported.export).config, init_from=str(imported.export))
    batches = [open_inputs(config).training().batch(step) for step in range(STEPS)]
    train(config, tmp_path / "run", "")
    ours = tiny.losses(tmp_path / "run")
    theirs = their_losses(imported.model, [as_theirs(batch, name == "llama") for batch in batches], tmp_path / "out")
    assert len(theirs) == STEPS
    assert theirs[-1] < 0.9 * theirs[0]
    np.testing.assert_allclose([ours[step] for step in sorted(ours)], theirs, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["encoder-decoder", "decoder-only"])
def test_a_packed_store_has_the_losses_of_its_pairs(architecture, rows, pairs, tmp_path):
    """The mean over one pass, whatever rows the examples share; each example's own is tests/objectives'."""
    packed = store_of(rows, tmp_path / "packed", "packed_pairs")
    model = tiny.model(architecture, vocab_size=VOCAB)
    found = []
    for store in (pairs, packed):
        config = run_of(store, model, batch_size=1, steps=1)
        inputs = open_inputs(config)
        examples = len(inputs.stores[0].split("train"))
        whole = dataclasses.replace(config, batch_size=examples)
        train(dataclasses.replace(whole, optimizer=AdamW(Constant(1e-9))), tmp_path / f"run_{len(found)}", "")
        found.append((examples, tiny.losses(tmp_path / f"run_{len(found)}")[1]))
    (one_each, alone), (shared, together) = found
    assert shared < one_each
    config = run_of(pairs, model, steps=2, batch_size=32, eval_every=2, eval_batches=1)
    shares = dataclasses.replace(config, data=dataclasses.replace(config.data, pack_batches=True))
    runs = {name: train(one, tmp_path / name, "") for name, one in (("alone", config), ("shares", shares))}
    assert runs["shares"]["validation_loss"] == pytest.approx(runs["alone"]["validation_loss"], rel=1e-5)
    steps = [list(tiny.losses(tmp_path / name).values()) for name in runs]
    np.testing.assert_allclose(*steps, rtol=1e-5)
    # Both are means over the same 500 target tokens, summed in other orders.
    assert together == pytest.approx(alone, rel=1e-5)


def test_examples_that_share_rows_are_counted_by_their_rows(pairs):
    """In what a run needs of memory, and in the step that `plan` compiles."""
    config = run_of(pairs, tiny.model("decoder-only", vocab_size=VOCAB), batch_size=32, steps=2)
    shares = dataclasses.replace(config, data=dataclasses.replace(config.data, pack_batches=True))
    inputs = open_inputs(shares)
    lengths = [sum(map(len, (one["inputs"], one["targets"]))) for one in inputs.stores[0].split("train")]
    assert inputs.least_rows(32) == math.ceil(32 * np.mean(lengths) / config.data.window)
    assert open_inputs(config).least_rows(32) == 32
    runs = [assemble(one, open_inputs(one)) for one in (config, shares)]
    alone, together = (least_bytes(run)["batch"] for run in runs)
    assert together * 32 == alone * inputs.least_rows(32)
    # Over four devices a batch has a multiple of four rows, no fewer than the examples take.
    planned, told = by_rows(shares, parse("v5e:2x2"))
    assert inputs.least_rows(32) <= planned.batch_size < 32 and planned.batch_size % 4 == 0
    assert planned.batch_size >= runs[1].tokens_per_step // config.data.window and not planned.data.pack_batches
    assert told == f"batch          32 examples in {planned.batch_size} rows of {config.data.window} tokens"
    unnamed = dataclasses.replace(shares, data=dataclasses.replace(shares.data, store=None))
    assert by_rows(unnamed, parse("v5e:2x2"))[0].batch_size == 32

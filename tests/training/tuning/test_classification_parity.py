"""Twenty steps of classification against transformers': same weights, rows and order, torch's AdamW; and exports."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.encoders import test_bert, test_modernbert
from triarch.data.manifest import Split, StoreLabels, StoreManifest, Vocabulary
from triarch.data.token_bytes import TokenBytes
from triarch.data.writer import StoreWriter
from triarch.evaluation.classification import Classifier
from triarch.interchange import read_export
from triarch.interchange.huggingface import choose_family, write_huggingface
from triarch.interchange.streamed import open_export
from triarch.loading import load, open_stored
from triarch.objectives import objective_from
from triarch.training import CheckpointConfig, DataConfig, RunConfig, train
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

WINDOW, ROWS, BATCH, STEPS, RATE = 12, 64, 8, 20, 5e-4
EOS = 3
DECODER = dict(
    vocab_size=parity.VOCAB, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4
)
T5 = dict(vocab_size=parity.VOCAB, d_model=24, d_kv=6, d_ff=32, num_layers=2, num_heads=4, dropout_rate=0.0,
          pad_token_id=0, eos_token_id=EOS, decoder_start_token_id=0)  # fmt: skip
CASES = {
    "bert": ("BertForSequenceClassification", "BertConfig",
             test_bert.BASE | dict(num_hidden_layers=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)),
    "modernbert": ("ModernBertForSequenceClassification", "ModernBertConfig",
                   test_modernbert.BASE | dict(num_hidden_layers=2, classifier_pooling="mean")),
    "llama": ("LlamaForSequenceClassification", "LlamaConfig", DECODER | dict(num_key_value_heads=2, pad_token_id=0)),
    "t5": ("T5ForSequenceClassification", "T5Config", T5),
}  # fmt: skip


def write_store(path, num_labels):
    """Writes rows of several lengths with labels; returns its arrays too."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(4, WINDOW + 1, ROWS)
    places = np.arange(WINDOW)
    tokens = rng.integers(4, parity.VOCAB, (ROWS, WINDOW)).astype(np.int32)
    tokens = np.where(places < lengths[:, None] - 1, tokens, np.where(places == lengths[:, None] - 1, EOS, 0))
    segments = (places < lengths[:, None]).astype(np.int32)
    segments += (segments > 0) & (places >= lengths[:, None] // 2)
    labels = rng.integers(0, num_labels, ROWS).astype(np.int32)
    with StoreWriter(path, WINDOW, "uint16", segments=True, label_bytes=4) as writer:
        writer.write("train", tokens, segments, labels[:, None])
        split = Split(ROWS, ROWS, int(lengths.sum()), 0, ROWS, writer.finish_files("train"))
        special = {"pad": 0, "bos": 0, "eos": EOS, "mask": None}
        vocabulary = Vocabulary("ids", parity.VOCAB, "tiny", special)
        names = StoreLabels("classes", tuple("abcdef"[:num_labels]))
        manifest = StoreManifest("tiny", "labelled", WINDOW, "uint16", vocabulary, {"train": split}, {}, labels=names)
        writer.finish(manifest, TokenBytes.fixed(np.ones(parity.VOCAB)))


def their_losses(model, batches, has_types, frozen=()):
    """Trains a model of transformers and returns its losses."""
    named = list(model.named_parameters())
    groups = [
        {"params": [value for _, value in named if value.ndim > 1], "weight_decay": 0.01},
        {"params": [value for _, value in named if value.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.999), eps=1e-8)
    losses = []
    for batch in batches:
        inputs = their_inputs(batch, has_types)
        loss = model(**inputs, labels=torch.from_numpy(batch["label"]).long()).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss))
    return losses


def their_inputs(batch, has_types):
    side = "encoder" if "encoder_input_tokens" in batch else "decoder"
    names = {"input_ids": f"{side}_input_tokens", "attention_mask": f"{side}_segment_ids"}
    names |= {"token_type_ids": "encoder_token_types"} if has_types else {}
    return {theirs: torch.from_numpy(np.array(batch[ours])).long() for theirs, ours in names.items()}


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps_and_an_export(name, tmp_path):
    class_name, config_name, options = CASES[name]
    labels = 3
    theirs = parity.make(class_name, config_name, **options | dict(num_labels=labels))
    imported = parity.import_model(theirs, tmp_path)
    objective = objective_from(imported.loaded.origin.objective, "test")
    assert objective.num_labels == labels
    write_store(tmp_path / "store", labels)
    run = RunConfig(
        model=imported.loaded.config,
        objective=objective,
        data=DataConfig(WINDOW, str(tmp_path / "store")),
        optimizer=AdamW(Constant(RATE), beta2=0.999, weight_decay=0.01, max_grad_norm=1.0),
        steps=STEPS,
        batch_size=BATCH,
        checkpoint=CheckpointConfig(every=STEPS),
        init_from=str(imported.export),
        log_every=1,
        z_loss=0.0,
        tensorboard=False,
    )
    read = open_inputs(run).training()
    batches = [read.batch(step) for step in range(STEPS)]
    train(run, tmp_path / "run", "")
    ours = [json.loads(line)["loss"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    wanted = their_losses(theirs.train(), batches, name == "bert")
    assert np.abs(np.array(ours) - wanted).max() <= 1e-4, np.abs(np.array(ours) - wanted)
    assert wanted[-1] != pytest.approx(wanted[0], abs=1e-2)

    # The trained classifier as a folder of transformers', whose logits are ours.
    stored = open_stored(tmp_path / "run")
    family = choose_family(stored)
    assert family.class_name == class_name
    write_huggingface(stored, tmp_path / "hf", family)
    again, info = parity.transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert type(again).__name__ == class_name
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert again.config.id2label == {0: "a", 1: "b", 2: "c"} and again.config.label2id == {"a": 0, "b": 1, "c": 2}
    with torch.no_grad():
        logits = again.eval()(**their_inputs(batches[0], name == "bert")).logits.numpy()
    classifier = Classifier(load(tmp_path / "run"), open_inputs(run).stores[0], "train", BATCH)
    features = {key: value for key, value in batches[0].items() if key != "label"}
    found = classifier.model.compiled(classifier._scores)(features)
    assert np.abs(found - logits).max() <= 1e-5 * max(1.0, np.abs(logits).max())


OTHERS = {
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", test_bert.BASE | dict(type_vocab_size=1)),
    "distilbert": ("DistilBertForSequenceClassification", "DistilBertConfig",
                   dict(vocab_size=parity.VOCAB, dim=24, n_layers=2, n_heads=4, hidden_dim=36)),
    "gpt2": ("GPT2ForSequenceClassification", "GPT2Config",
             dict(vocab_size=parity.VOCAB, n_embd=24, n_layer=2, n_head=4, n_positions=16, pad_token_id=0)),
    "bart": ("BartForSequenceClassification", "BartConfig",
             dict(vocab_size=parity.VOCAB, d_model=24, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                  decoder_attention_heads=4, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=16,
                  pad_token_id=0, bos_token_id=0, eos_token_id=EOS, decoder_start_token_id=0)),
    "bert tokens": ("BertForTokenClassification", "BertConfig", test_bert.BASE),
    "modernbert tokens": ("ModernBertForTokenClassification", "ModernBertConfig", test_modernbert.BASE),
    "llama tokens": ("LlamaForTokenClassification", "LlamaConfig", DECODER),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_classifiers_come_in_and_go_out(name, tmp_path):
    class_name, config_name, options = OTHERS[name]
    theirs = parity.make(class_name, config_name, **options | dict(num_labels=3))
    imported = parity.import_model(theirs, tmp_path)
    write_store(tmp_path / "store", 3)
    config = imported.loaded.config
    objective = objective_from(imported.loaded.origin.objective, "test")
    special = dataclasses.replace(_special(), pad=config.pad_id)
    bound = objective.bind(config.architecture, special, parity.VOCAB, WINDOW)
    text = parity.side(1, WINDOW, pad_id=config.pad_id, left=False)
    if name == "bart":
        text = dataclasses.replace(text, tokens=_ended(text))
    example = [
        {"tokens": tokens, "segment_ids": real.astype(np.int32), "label": 0}
        for tokens, real in zip(text.tokens, text.real, strict=True)
    ]
    features = [bound.features(one, np.random.default_rng(0)) for one in example]
    batch = {key: np.stack([one[key] for one in features]) for key in features[0] if key != "label"}
    loaded = read_export(imported.export, parity.tiny.FLOAT32)
    found = loaded.compiled(lambda model, batch: bound.logits(model, batch))(batch)
    with torch.no_grad():
        wanted = theirs.eval()(**their_inputs(batch, False)).logits.numpy()
    real = text.real if "tokens" in name else slice(None)
    assert np.abs(found[real] - wanted[real]).max() <= 1e-4 * max(1.0, np.abs(wanted).max())
    write_huggingface(open_export(imported.export), tmp_path / "again", choose_family(open_export(imported.export)))
    again, info = type(theirs).from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    state = again.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in theirs.state_dict().items())


def _special():
    from triarch.objectives import SpecialTokens

    return SpecialTokens(pad=0, bos=0, eos=EOS, mask=None)


def _ended(text):
    """Returns tokens of which the last real one of each row is the end, and no other."""
    tokens = np.where(text.tokens == EOS, EOS + 1, text.tokens)
    tokens[np.arange(3), text.real.sum(1) - 1] = EOS
    return tokens

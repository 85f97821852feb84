"""Small SeqIO tasks with metrics of every kind, and tiny models of each architecture that read bytes."""

from __future__ import annotations

import dataclasses
import re
import string
from collections import Counter

import numpy as np
import pytest
import scipy.stats
import seqio
import sklearn.metrics
import tensorflow as tf
from flax import nnx

from tests.models import tiny
from triarch.interchange import Origin, write_export
from triarch.tokenizers import ByteTokenizer

# Comes with the extra `eval`, and is no dependency of triarch's own.
pytest.importorskip("rouge_score")
sacrebleu = pytest.importorskip("sacrebleu")

VOCABULARY = seqio.ByteVocabulary(extra_ids=1)
# Of like lengths: few shapes are compiled.
PAIRS = [
    ("good? a fine film", "yes"), ("good? dull, dull", "no"), ("good? a joy to see", "yes"),
    ("good? I left early", "no"), ("good? fine, mostly", "yes"),
]  # fmt: skip
_WORDS = ("a", "fine", "film", "yes", "no", "joy", "dull", "left")
ONE_EACH = dataclasses.replace(tiny.REDLLM, num_encoder_layers=1, num_decoder_layers=1)
MODELS = {
    "decoder": (dataclasses.replace(tiny.DECLLM, num_decoder_layers=1), {"class": "CausalLM"}),
    "prefix": (
        dataclasses.replace(tiny.DECLLM, num_decoder_layers=1),
        {"class": "PrefixLM", "bidirectional_prefix": True},
    ),
    "both": (ONE_EACH, {"class": "PrefixLM"}),
    "encoder": (dataclasses.replace(tiny.ETTIN_ENCODER, num_encoder_layers=1), {"class": "MaskedLM"}),
    "short": (dataclasses.replace(tiny.GPT2, num_decoder_layers=1), None),
}


def write_models(folder, names=tuple(MODELS)):
    """Writes exports of models with random parameters; returns their folder."""
    tokenizer = ByteTokenizer()
    for name in names:
        config, objective = MODELS[name]
        config = dataclasses.replace(config, vocab_size=tokenizer.info.size)
        origin = Origin(objective=objective, vocabulary=dataclasses.asdict(tokenizer.info))
        write_export(folder / name, nnx.merge(*tiny.split(config)), origin)
    return folder


def accuracy(targets, predictions):
    return {"accuracy": 100 * sklearn.metrics.accuracy_score(targets, predictions)}


def f1(targets, predictions):
    return {"f1": 100 * sklearn.metrics.f1_score(targets, predictions)}


def matthews(targets, predictions):
    return {"matthews": 100 * sklearn.metrics.matthews_corrcoef(targets, predictions)}


def spearman(targets, predictions):
    return {"spearman": 100 * scipy.stats.spearmanr(targets, predictions)[0]}


def rouge(targets, predictions):
    from rouge_score import rouge_scorer, scoring

    scorer = rouge_scorer.RougeScorer(["rouge1", "rougeLsum"])
    found = scoring.BootstrapAggregator(n_samples=10)
    for target, prediction in zip(targets, predictions, strict=True):
        found.add_scores(scorer.score(target, prediction))
    np.random.seed(0)
    return {name: 100 * value.mid.fmeasure for name, value in found.aggregate().items()}


def bleu(targets, predictions):
    return {"bleu": seqio.metrics.Scalar(sacrebleu.corpus_bleu(predictions, [targets]).score)}


def squad(targets, predictions):
    """Exact match and F1 over words, the best of several answers."""

    def words(text):
        text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    def overlap(one, other):
        common = sum((Counter(words(one)) & Counter(words(other))).values())
        return 2 * common / max(len(words(one)) + len(words(other)), 1)

    exact = [max(words(one) == words(given) for one in all_) for all_, given in zip(targets, predictions, strict=True)]
    best = [max(overlap(one, given) for one in all_) for all_, given in zip(targets, predictions, strict=True)]
    return {"em": 100 * float(np.mean(exact)), "f1": 100 * float(np.mean(best))}


def mean_score(targets, scores):
    assert len(targets) == len(scores)
    return {"mean_score": float(np.mean(scores)), "shape": seqio.metrics.Text(str(np.shape(scores)))}


def mean_confidence(targets, predictions, aux_values):
    return {"confidence": float(np.mean(aux_values["scores"]))}


def to_label(text, example=None, is_target=False):
    """1 for a text that holds many letters of "yes" or, as a target, is it."""
    return int(text == "yes") if is_target else int(len(text) % 2)


def to_number(text, example=None, is_target=False):
    return float(len(text)) if not is_target else float(example["number"])


def to_words(text, example=None, is_target=False):
    """A target is as it is; what a model with random parameters writes is turned into words, letter by letter."""
    return text if is_target else " ".join(_WORDS[ord(letter) % len(_WORDS)] for letter in text)


def to_answers(text, example=None, is_target=False):
    return [text, "a fine film"] if is_target else " ".join(to_words(text).split()[:3])


def source(rows=None):
    rows = PAIRS if rows is None else rows

    def dataset(split, shuffle_files=False, seed=None):
        given = rows if split == "validation" else rows[:2] if split == "train" else []
        columns = {
            "inputs": [one for one, _ in given], "targets": [other for _, other in given],
            "number": [len(one) % 3 for one, _ in given],
        }  # fmt: skip
        types = {"inputs": tf.string, "targets": tf.string, "number": tf.int64}
        return tf.data.Dataset.from_tensor_slices({name: tf.constant(columns[name], types[name]) for name in columns})

    return seqio.FunctionDataSource(dataset, splits=["train", "validation", "empty"])


def register(
    name, metric_fns, postprocess_fn=None, rows=None, features=("inputs", "targets"), vocabulary=VOCABULARY, **more
):
    """Registers a task in place of one of that name, and returns it."""
    if name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(name)
    return seqio.TaskRegistry.add(
        name,
        source=source(rows),
        preprocessors=more.pop("preprocessors", [seqio.preprocessors.tokenize, seqio.preprocessors.append_eos]),
        output_features={feature: seqio.Feature(vocabulary, add_eos=True) for feature in features},
        postprocess_fn=postprocess_fn,
        metric_fns=metric_fns,
        **more,
    )


def register_all():
    """Registers the tasks that `seqio.Evaluator` is compared on; returns their names."""
    register("ev_labels", [accuracy, f1, matthews], to_label)
    register("ev_numbers", [spearman], to_number)
    register("ev_texts", [rouge, bleu], to_words, rows=[(one, f"{other}, {one[6:]}") for one, other in PAIRS])
    register("ev_answers", [squad], to_answers)
    register("ev_scores", [mean_score])
    register("ev_mixed", [mean_score, accuracy, mean_confidence])
    return ["ev_labels", "ev_numbers", "ev_texts", "ev_answers", "ev_scores", "ev_mixed"]

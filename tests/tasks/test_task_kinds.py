"""Tasks of every kind, token by token as SeqIO's own `get_dataset` and feature converters with the same seed."""

import numpy as np
import pytest
import seqio

from tests.tasks import task_kinds
from triarch.objectives import SpecialTokens, Supervised
from triarch.prepare.examples import prepare_examples
from triarch.tasks.any_task import TaskExamples, TaskOptions

LENGTHS = task_kinds.LENGTHS
KINDS = ["span_corruption", "prefix_lm", "ul2", "glue", "flan", "promptsource", "own"]


@pytest.fixture(scope="module", autouse=True)
def registered(tmp_path_factory):
    assert task_kinds.register(tmp_path_factory.mktemp("kinds")) == KINDS


def features(store, architecture):
    """What training makes of a store's examples, one after another."""
    objective = Supervised(LENGTHS["inputs"], LENGTHS["targets"], bidirectional_prefix=True)
    vocabulary = store.manifest.vocabulary
    special = SpecialTokens.from_manifest(vocabulary.special)
    transform = objective.transform(architecture, special, vocabulary.size, store.manifest.window)
    reader = store.split("train")
    return [transform(reader[index], np.random.default_rng(0)) for index in range(len(reader))]


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_seqios(kind, tmp_path):
    name = f"kind_{kind}"
    # Preprocessing in Python, of two shards: in the order that `get_dataset` has only where it is not taken apart.
    options = TaskOptions(splits=("train",), sequence_length=LENGTHS, seed=11, shards=1)
    store = prepare_examples(TaskExamples(seqio.TaskRegistry.get(name), options), tmp_path / "store", "pairs", 0)
    both = kind != "prefix_lm"
    converter = seqio.EncDecFeatureConverter(pack=False) if both else seqio.PrefixLMFeatureConverter(pack=False)
    theirs = seqio.get_dataset(name, LENGTHS, converter, "train", shuffle=False, seed=11).as_numpy_iterator()
    made = features(store, "encoder-decoder" if both else "decoder-only")
    count = 0
    for ours, expected in zip(made, theirs, strict=True):
        for feature, value in expected.items():
            np.testing.assert_array_equal(ours[feature], value, err_msg=feature)
        count += 1
    assert count >= 24


def test_random_kinds_draw_differently():
    """What is compared above could be unequal: another seed gives other examples."""
    for kind in ("span_corruption", "ul2", "flan"):
        task = seqio.TaskRegistry.get(f"kind_{kind}")
        given = dict(sequence_length=LENGTHS, split="train", shuffle=False)
        first, second = (list(task.get_dataset(**given, seed=seed).take(5).as_numpy_iterator()) for seed in (11, 12))
        assert any(one["inputs"].tolist() != two["inputs"].tolist() for one, two in zip(first, second, strict=True))
    ul2 = seqio.TaskRegistry.get("kind_ul2").get_dataset(**given, seed=11)
    modes = {one["inputs"][0] for one in ul2.as_numpy_iterator()}
    assert modes == {263, 264, 265}

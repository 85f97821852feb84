"""Several examples of inputs and targets in a row: SeqIO's features, and each example's own losses and gradients."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from triarch.errors import UserError
from triarch.objectives import SpecialTokens, Supervised
from triarch.objectives.losses import token_losses
from triarch.prepare.layouts import FirstFit

SPECIAL = SpecialTokens(pad=0, bos=0, eos=1, mask=None)
INPUTS, TARGETS = 24, 16
OBJECTIVES = [
    ("encoder-decoder", Supervised(INPUTS, TARGETS)),
    ("decoder-only", Supervised(INPUTS, TARGETS)),
    ("decoder-only", Supervised(INPUTS, TARGETS, bidirectional_prefix=True)),
]


def pairs(count, seed):
    """Pairs that end with the end of a document, some as long as a row."""
    rng = np.random.default_rng(seed)

    def text(most):
        length = min(int(rng.geometric(2.5 / most)), most)
        return np.append(rng.integers(2, 40, length - 1, dtype=np.int32), np.int32(1))

    return [(text(INPUTS), text(TARGETS)) for _ in range(count)]


def packed(examples, open_rows=1):
    """The rows into which a store packs `examples`, as its reader gives them, and the examples of each."""
    layout = FirstFit([INPUTS, TARGETS], SPECIAL.pad, open_rows=open_rows)
    lengths = np.array([[len(side) for side in pair] for pair in examples])
    made = [layout.add(np.concatenate([side for pair in examples for side in pair]), lengths.ravel()), layout.finish()]
    for part in made:
        for tokens, numbers in zip(part.tokens, part.segment_ids, strict=True):
            inputs = np.array([(numbers == number).sum() for number in range(1, numbers.max(), 2)], np.int32)
            yield {"tokens": tokens, "segment_ids": (numbers + 1) // 2, "num_inputs": inputs}
    assert len({int(piece[1]) for part in made for piece in part.pieces}) == len(examples)


def unpacked(row):
    """The pairs of a row."""
    documents = [row["tokens"][row["segment_ids"] == n + 1] for n in range(len(row["num_inputs"]))]
    return [tuple(np.split(text, [count])) for text, count in zip(documents, row["num_inputs"], strict=True)]


def features(objective, architecture, row, vocab_size=40):
    return objective.transform(architecture, SPECIAL, vocab_size, INPUTS + TARGETS)(row, np.random.default_rng(0))


def converted(converter, examples, lengths):
    """SeqIO's packed rows."""
    tf = pytest.importorskip("tensorflow")
    signature = {name: tf.TensorSpec([None], tf.int32) for name in examples[0]}
    dataset = tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=signature)
    return list(converter(dataset, lengths).as_numpy_iterator())


def assert_same(actual, wanted):
    for name, value in wanted.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


def test_rows_of_an_encoder_decoder_are_seqios():
    """Which examples share a row, too, where one row is open at a time as in SeqIO."""
    seqio = pytest.importorskip("seqio")
    examples = pairs(60, 0)
    wanted = converted(
        seqio.EncDecFeatureConverter(pack=True),
        [{"inputs": inputs, "targets": targets} for inputs, targets in examples],
        {"inputs": INPUTS, "targets": TARGETS},
    )
    rows = list(packed(examples))
    assert len(wanted) == len(rows) and max(len(row["num_inputs"]) for row in rows) > 2
    for row, expected in zip(rows, wanted, strict=True):
        actual = features(Supervised(INPUTS, TARGETS), "encoder-decoder", row)
        assert expected.keys() == actual.keys()
        assert_same(actual, expected)


def test_rows_of_a_decoder_are_those_of_both_seqio_converters():
    """SeqIO's decoders have no two sides to fill, so it is given the examples of one row."""
    seqio = pytest.importorskip("seqio")
    rows = sorted(packed(pairs(60, 2), open_rows=5), key=lambda row: -len(row["num_inputs"]))[:2]
    for row in rows:
        causal, both_ways = (features(objective, "decoder-only", row) for _, objective in OBJECTIVES[1:])
        examples = [{"inputs": inputs, "targets": targets} for inputs, targets in unpacked(row)]
        lengths = {"inputs": INPUTS, "targets": TARGETS}
        (wanted,) = converted(seqio.PrefixLMFeatureConverter(pack=True), examples, lengths)
        assert both_ways.keys() == wanted.keys() and causal.keys() == wanted.keys() - {"decoder_causal_attention"}
        assert_same(both_ways, wanted)
        assert_same(causal, {name: wanted[name] for name in causal})
        # A language model of the joined texts reads the same, and is scored on all of it.
        joined = [{"targets": np.concatenate(pair)} for pair in unpacked(row)]
        (wanted,) = converted(seqio.LMFeatureConverter(pack=True), joined, {"targets": INPUTS + TARGETS})
        assert_same(causal, {name: wanted[name] for name in wanted if name != "decoder_loss_weights"})


CONFIGS = {
    "encoder-decoder": dataclasses.replace(tiny.REDLLM, num_encoder_layers=1, num_decoder_layers=1),
    "decoder-only": dataclasses.replace(tiny.DECLLM, num_decoder_layers=1),
}


@functools.cache
def losses_and_gradient(architecture):
    graph, state = tiny.split(CONFIGS[architecture])

    def loss(state, batch):
        losses = token_losses(nnx.merge(graph, state), batch, chunk=0) * batch["decoder_loss_weights"]
        return losses.sum(), losses

    compiled = tiny.fast_jit(jax.value_and_grad(loss, has_aux=True))
    return lambda rows: compiled(state, {name: np.stack([row[name] for row in rows]) for name in rows[0]})


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "objective"), OBJECTIVES)
def test_a_packed_example_is_an_example_by_itself(architecture, objective):
    """Losses of every target, and the gradient of all parameters."""
    row = max(packed(pairs(60, 3)), key=lambda row: len(row["num_inputs"]))
    alone = [{"inputs": inputs, "targets": targets} for inputs, targets in unpacked(row)]
    assert len(alone) > 3
    together, separate = (
        losses_and_gradient(architecture)([features(objective, architecture, one, 61) for one in rows])
        for rows in ([row], alone)
    )
    ((_, found), gradient), ((_, expected), wanted) = together, separate
    found, expected = np.asarray(found), np.asarray(expected)
    np.testing.assert_allclose(found[found > 0], expected[expected > 0], rtol=3e-5)
    for (path, value), (_, other) in zip(
        jax.tree_util.tree_leaves_with_path(gradient), jax.tree_util.tree_leaves_with_path(wanted), strict=True
    ):
        scale = float(np.abs(other).max())
        np.testing.assert_allclose(value, other, rtol=0, atol=3e-5 * scale, err_msg=jax.tree_util.keystr(path))


def test_mistakes_are_one_line():
    row = max(packed(pairs(60, 3)), key=lambda row: row["num_inputs"].sum())
    with pytest.raises(UserError, match=rf"Supervised\.inputs_length = 20: an example has {row['num_inputs'].sum()} t"):
        features(Supervised(20, 20), "encoder-decoder", row)
    with pytest.raises(UserError, match="trains encoder-decoder or decoder-only models, not encoder-only"):
        features(Supervised(INPUTS, TARGETS), "encoder-only", row)

"""What SeqIO's own users get from an objective's task."""

import numpy as np
import pytest
import seqio

from tests.tokenizers.texts import Documents
from triarch.errors import UserError
from triarch.objectives import MNTP, CausalLM, MaskedLM, SpanCorruption, SpecialTokens
from triarch.tasks.preprocessors import NAMED, features_task, objective_task
from triarch.tasks.registry import corpus_task
from triarch.tasks.vocabularies import seqio_vocabulary
from triarch.tokenizers import ByteTokenizer
from triarch.tokenizers.extra_ids import ExtraIds, with_extra_ids

TOKENIZER = with_extra_ids(ByteTokenizer(), ExtraIds(modes=True, sentinels=100))
VOCABULARY = seqio_vocabulary(TOKENIZER)
SPECIAL = SpecialTokens.from_manifest(TOKENIZER.info.special)


@pytest.fixture(scope="module")
def text():
    return corpus_task("test_objectives", Documents(), VOCABULARY)


def read(task, lengths, seed=0):
    dataset = seqio.get_mixture_or_task(task.name).get_dataset(lengths, split="train", shuffle=False, seed=seed)
    return list(dataset.as_numpy_iterator())


def stream(task):
    return np.concatenate([example["targets"] for example in read(task, None)])


def spliced(inputs, targets):
    """Puts what follows each sentinel in the targets where the sentinel stands in the inputs; drops both ends."""
    inputs, targets = inputs[:-1], targets[:-1]
    starts = np.flatnonzero(np.isin(targets, SPECIAL.sentinels))
    spans = {part[0]: part[1:].tolist() for part in np.split(targets, starts)[1:]}
    return [token for item in inputs.tolist() for token in spans.get(item, [item])]


def test_special_tokens_are_those_of_seqios_vocabulary():
    assert (SPECIAL.pad, SPECIAL.eos) == (VOCABULARY.pad_id, VOCABULARY.eos_id)
    assert len(SPECIAL.sentinels) == 100
    # T5 counts its sentinels down from the last id.
    assert SPECIAL.sentinels[:3] == tuple(VOCABULARY.vocab_size - number for number in (1, 2, 3))


def test_span_corruption_has_t5s_lengths_and_loses_nothing(text):
    task = objective_task(text, SpanCorruption(), SPECIAL)
    assert task.name == "test_objectives.span_corruption"
    examples = read(task, {"inputs": 64, "targets": 64})
    # t5 0.9.4: random_spans_helper(inputs_length=64, noise_density=0.15, mean_noise_span_length=3) is (70, 14).
    assert {(len(example["inputs"]), len(example["targets"])) for example in examples} == {(64, 14)}
    assert all(example[name][-1] == 1 for example in examples for name in ("inputs", "targets"))
    whole = stream(text)
    assert len(examples) == len(whole) // 70
    tokens = [token for example in examples for token in spliced(example["inputs"], example["targets"])]
    np.testing.assert_array_equal(tokens, whole[: len(tokens)])


def test_seqios_converter_gives_what_triarch_trains_on(text):
    task = objective_task(text, SpanCorruption(), SPECIAL)
    lengths = {"inputs": 64, "targets": 14}
    options = dict(dataset_split="train", shuffle=False, seed=4)
    converter = seqio.EncDecFeatureConverter(pack=False)
    dataset = seqio.get_dataset(task.name, lengths, feature_converter=converter, **options)
    pairs = read(task, lengths, seed=4)
    transform = SpanCorruption().transform("encoder-decoder", SPECIAL, VOCABULARY.vocab_size, 70)
    rng = np.random.default_rng(0)
    for converted, pair in zip(dataset.as_numpy_iterator(), pairs, strict=True):
        own = transform({"tokens": np.array(spliced(pair["inputs"], pair["targets"]))}, rng)
        assert converted.keys() == own.keys() - {"encoder_segment_ids"}
        np.testing.assert_array_equal(converted["decoder_target_tokens"], pair["targets"])
        np.testing.assert_array_equal(converted["decoder_input_tokens"][1:], pair["targets"][:-1])
        for name in converted:
            assert converted[name].shape == own[name].shape
        np.testing.assert_array_equal(converted["decoder_loss_weights"], own["decoder_loss_weights"])


def test_examples_depend_on_the_seed_only(text):
    task = objective_task(text, NAMED["ul2"], SPECIAL, "test_ul2")
    one, two, other = (read(task, {"inputs": 64, "targets": 64}, seed) for seed in (1, 1, 2))
    rows = [[example["inputs"].tolist() for example in examples] for examples in (one, two, other)]
    assert rows[0] == rows[1] != rows[2]
    modes = {example["inputs"][0] for example in one}
    assert modes <= set(SPECIAL.modes.values()) and len(modes) > 1
    for example in one:
        assert len(example["inputs"]) <= 64 and len(example["targets"]) <= 64


@pytest.mark.parametrize("name", NAMED)
def test_every_corpus_has_a_task_for_every_objective(name):
    task = seqio.get_mixture_or_task(f"stdlib_code.{name}")
    dataset = task.get_dataset({"inputs": 96, "targets": 96}, split="train", shuffle=False, seed=0)
    example = next(dataset.as_numpy_iterator())
    assert set(example) == {"inputs", "targets"}
    for tokens in example.values():
        assert 0 < len(tokens) <= 96 and tokens.dtype == np.int32


def test_masked_inputs_fit_the_encoder_converter(text):
    task = objective_task(text, MaskedLM(rate=0.3, mask_share=1.0, random_share=0.0), SPECIAL)
    lengths = {"inputs": 32, "targets": 32}
    options = dict(dataset_split="train", shuffle=False, seed=0)
    converter = seqio.EncoderFeatureConverter(mask_id=SPECIAL.mask, pack=False)
    dataset = seqio.get_dataset(task.name, lengths, feature_converter=converter, **options)
    rows = list(dataset.as_numpy_iterator())
    targets = np.concatenate([row["encoder_target_tokens"] for row in rows])
    np.testing.assert_array_equal(targets, stream(text)[: len(targets)])
    for row in rows:
        ordinary = (row["encoder_target_tokens"] != 1).sum()
        assert row["encoder_loss_weights"].sum() == round(0.3 * ordinary)


def test_features_of_any_objective_pass_through(text):
    task = features_task(text, MNTP(), "decoder-only", SPECIAL, window=40, name="test_mntp")
    lengths = dict.fromkeys(task.output_features, 40)
    converter = seqio.PassThroughFeatureConverter()
    dataset = seqio.get_dataset(
        "test_mntp", lengths, dataset_split="train", shuffle=False, seed=0, feature_converter=converter
    )
    rows = list(dataset.as_numpy_iterator())
    targets = np.concatenate([row["decoder_target_tokens"] for row in rows])
    np.testing.assert_array_equal(targets, stream(text)[: len(targets)])
    for row in rows:
        assert {name: value.shape for name, value in row.items()} == dict.fromkeys(lengths, (40,))
        shown = row["decoder_input_tokens"][1:] == row["decoder_target_tokens"][:-1]
        assert (row["decoder_loss_weights"][:-1][~shown] == 1).all()
        assert row["decoder_causal_attention"].all() and row["decoder_loss_weights"].sum() > 0


def test_mistakes_are_one_line(text):
    corrupted = objective_task(text, SpanCorruption(), SPECIAL, "test_lengths")
    with pytest.raises(UserError, match='objective span_corruption needs sequence_length of "inputs" and "targets"'):
        read(corrupted, None)
    with pytest.raises(UserError, match="is not plain text: its inputs and targets are given"):
        objective_task(corrupted, SpanCorruption(), SPECIAL)
    with pytest.raises(UserError, match="objective causal_lm has no inputs and targets: see features_task"):
        read(objective_task(text, CausalLM(), SPECIAL), {"inputs": 8, "targets": 8})
    with pytest.raises(UserError, match="needs 160 sentinel tokens, and the store's vocabulary has 100"):
        read(objective_task(text, SpanCorruption(0.5, 3.0), SPECIAL, "test_many"), {"inputs": 640, "targets": 640})
